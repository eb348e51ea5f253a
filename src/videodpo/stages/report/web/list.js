// A list that keeps only the rows in sight in the document, so that its length does not matter.
"use strict";

const OVERSCAN = 3; // rows above and below those in sight
const REST = 120; // milliseconds; the clips of a row are loaded when scrolling slows down

/**
 * @param {HTMLElement} container Scrolls, and has the role of a listbox.
 * @param {object} options
 * @param {function(): HTMLElement} options.create Makes an empty row.
 * @param {function(HTMLElement, number): void} options.fill Writes the text of row number `index`.
 * @param {function(HTMLElement): void} options.load Loads the clips of a filled row.
 * @param {function(HTMLElement): void} options.release Gives up the clips of a row.
 */
function virtualList(container, { create, fill, load, release }) {
  const spacer = document.createElement("div");
  spacer.className = "spacer";
  container.replaceChildren(spacer);
  const rows = new Map(); // index -> element in the document
  const spare = [];
  let count = 0;
  let height = 0;
  let requested = false;
  let timer = 0;
  let timedAt = 0;

  // The height comes from the style sheet, and differs on narrow screens.
  const rowHeight = () => parseFloat(getComputedStyle(container).getPropertyValue("--row")) || 88;

  function render() {
    requested = false;
    const first = Math.max(0, Math.floor(container.scrollTop / height) - OVERSCAN);
    const last = Math.min(count, Math.ceil((container.scrollTop + container.clientHeight) / height) + OVERSCAN);
    for (const [index, row] of rows) {
      if (index < first || index >= last) {
        release(row);
        row.hidden = true;
        rows.delete(index);
        spare.push(row);
      }
    }
    for (let index = first; index < last; index++) {
      if (rows.has(index)) continue;
      const row = spare.pop() || spacer.appendChild(create());
      row.hidden = false;
      row.style.transform = `translateY(${index * height}px)`;
      row.setAttribute("aria-posinset", String(index + 1));
      row.setAttribute("aria-setsize", String(count));
      fill(row, index);
      rows.set(index, row);
    }
    if (!timer) waitForRest();
  }

  function waitForRest() {
    timedAt = container.scrollTop;
    timer = setTimeout(() => {
      timer = 0;
      if (Math.abs(container.scrollTop - timedAt) > container.clientHeight / 4) return waitForRest();
      rows.forEach((row) => load(row));
    }, REST);
  }

  function request() {
    if (requested) return;
    requested = true;
    requestAnimationFrame(render);
  }

  /** Show `length` rows from the start; all rows are filled anew. */
  function reset(length) {
    count = length;
    clear();
    height = rowHeight();
    spacer.style.height = `${count * height}px`;
    container.scrollTop = 0;
    if (container.clientHeight) render();
  }

  function clear() {
    for (const row of rows.values()) {
      release(row);
      row.hidden = true;
      spare.push(row);
    }
    rows.clear();
  }

  /** Fill the rows in sight again, for example with another selection. */
  function refresh() {
    rows.forEach((row, index) => fill(row, index));
  }

  /** Scroll until a row is in sight. */
  function reveal(index) {
    const top = index * height;
    const bottom = top + height - container.clientHeight;
    if (container.scrollTop > top) container.scrollTop = top;
    else if (container.scrollTop < bottom) container.scrollTop = bottom;
    if (container.clientHeight) render();
  }

  container.addEventListener("scroll", request, { passive: true });
  new ResizeObserver(() => {
    if (!container.clientHeight) return;
    if (height !== rowHeight()) {
      const top = container.scrollTop / (height || 1);
      reset(count);
      container.scrollTop = top * height;
    }
    request();
  }).observe(container);

  return { reset, refresh, reveal, clear, perPage: () => Math.max(1, Math.floor(container.clientHeight / height) - 1) };
}
