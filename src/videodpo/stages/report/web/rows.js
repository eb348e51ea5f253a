// Rows of a gallery's list: thumbnails, prompt, the difference of the sorted score, and a small bar for every score.
"use strict";

const PIXEL_ART = 160; // clips narrower than this (pixels) are enlarged with hard edges, without smoothing
const plain = (name) => name.replaceAll("_", " ");
const withMinus = (text) => text.replace("-", "\u2212");
const shown = (number, digits = 4) => (number === null ? "none" : withMinus(number.toFixed(digits)));
const signed = (number, digits = 4) =>
  number === null ? "none" : (number > 0 ? "+" : "") + withMinus(number.toFixed(digits));
const direction = (number) => (number > 0 ? "up" : number < 0 ? "down" : "even");

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * @param {string} id Id of the gallery, for the ids of its rows.
 * @param {object} data Columns of the rows, from data/<name>.js.
 * @param {object} columns What `galleryColumns` returns for them.
 * @param {function(): object} view Current `rows`, `selected`, `spans`, and the state's `sort` and `sides`.
 * @param {function(number): void} choose Called with the position of a row that was clicked.
 */
function galleryRows(id, data, columns, view, choose) {
  const pieces = new WeakMap(); // the parts of each row, so that scrolling looks nothing up

  function create() {
    const thumbs = data.sides.map(() => element("video", { muted: true, playsInline: true, loop: true, preload: "metadata" }));
    const [prompt, meta] = [element("p", { className: "prompt" }), element("p", { className: "meta" })];
    const delta = element("b", { className: "delta" });
    const spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    spark.setAttribute("class", "spark");
    spark.setAttribute("viewBox", `0 0 ${columns.names.length * 7} 34`);
    spark.setAttribute("width", String(columns.names.length * 7));
    const [up, down] = ["up", "down"].map((name) => {
      const path = spark.appendChild(document.createElementNS(spark.namespaceURI, "path"));
      path.setAttribute("class", name);
      return path;
    });
    const made = element(
      "div",
      { className: "row" },
      element("div", { className: "thumbs" }, ...thumbs),
      element("div", { className: "words" }, prompt, meta),
      element("div", { className: "marks" }, delta, spark),
    );
    made.setAttribute("role", "option");
    for (const hidden of [spark, ...thumbs]) hidden.setAttribute("aria-hidden", "true");
    made.addEventListener("pointerenter", () => thumbs.forEach((video) => video.src && video.play().catch(() => {})));
    made.addEventListener("pointerleave", () => thumbs.forEach((video) => video.pause()));
    made.addEventListener("click", () => choose(pieces.get(made).position));
    pieces.set(made, { thumbs, prompt, meta, delta, up, down, position: 0 });
    return made;
  }

  function fill(made, position) {
    const now = view();
    const row = now.rows[position];
    const parts = pieces.get(made);
    parts.position = position;
    made.id = `${id}-row-${row}`;
    made.setAttribute("aria-selected", String(position === now.selected));
    const measure = Math.max(0, columns.names.indexOf(now.sort));
    const delta = columns.difference(measure, row, now.sides);
    parts.prompt.textContent = data.prompts[row];
    const facts = columns.numericFacts.map((name) => `${plain(name)} ${shown(data.facts[name][row], 3)}`);
    parts.meta.textContent = [data.ids[row], ...facts].join(" · ");
    parts.delta.textContent = signed(delta, 3);
    parts.delta.className = `delta ${direction(delta)}`;
    parts.delta.title = `${plain(columns.names[measure])}: ${data.sides[now.sides[0]]} minus ${data.sides[now.sides[1]]}`;
    // One bar per measure, above or below the middle; both paths together are far cheaper than an element per bar.
    const paths = { up: "", down: "", even: "" };
    columns.names.forEach((_, number) => {
      const change = columns.difference(number, row, now.sides);
      const share = now.spans[number] && change !== null ? change / now.spans[number] : 0;
      paths[direction(share)] += `M${number * 7} 17h5v${(-17 * share).toFixed(1)}h-5z`;
    });
    parts.up.setAttribute("d", paths.up);
    parts.down.setAttribute("d", paths.down);
  }

  /** Show the first frame of each clip of a row. */
  function load(made) {
    const { thumbs, position } = pieces.get(made);
    const now = view();
    const row = now.rows[position];
    thumbs.forEach((video, side) => {
      const file = data.clips[side][row];
      video.classList.toggle("absent", file === null);
      video.classList.toggle("pixels", data.width[row] < PIXEL_ART);
      if (file === null || video.dataset.file === file) return;
      video.dataset.file = file;
      video.src = `${file}#t=0.01`; // without a time, some browsers show no frame before the first play
    });
  }

  function release(made) {
    for (const video of pieces.get(made).thumbs) {
      if (!video.dataset.file) continue;
      delete video.dataset.file;
      video.removeAttribute("src");
      video.load(); // frees the decoder
    }
  }

  return { create, fill, load, release };
}
