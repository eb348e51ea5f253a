// One gallery: tools, list of rows, and the selected row with its clips in step and the bars of its scores.
"use strict";

const PARTS = ["q", "sort", "dir", "by", "min", "max", "clips", "plus", "minus"];

/**
 * @param {HTMLElement} root Element with the markup of the macro `gallery` in parts.html.
 * @param {object} data Columns of the rows, from data/<name>.js.
 * @param {function(URLSearchParams): void} onState Called when the address of the view changes.
 */
function gallery(root, data, onState) {
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const columns = galleryColumns(data);
  const fresh = () => ({
    q: "", sort: columns.names[0], dir: "desc", by: columns.names[0], min: "", max: "", clips: false,
    plus: String(data.difference[0]), minus: String(data.difference[1]), item: "",
  });
  let state = fresh();
  let rows = [];
  let selected = -1; // position in `rows`
  let spans = [];
  let player = null;
  let active = false;
  let wantsPlay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const narrow = matchMedia("(max-width: 55rem)");
  const sides = () => [Number(state.plus), Number(state.minus)];

  // Tools

  function option(name, text) {
    return element("option", { value: name, textContent: text });
  }
  const measureOptions = () => columns.names.map((name) => option(name, plain(name)));
  const factOptions = () => columns.numericFacts.map((name) => option(name, plain(name)));
  part("sort").append(...measureOptions(), ...factOptions(), option("table", "order of the table"));
  part("by").append(...measureOptions(), ...factOptions());
  for (const name of ["plus", "minus"]) {
    part(name).append(...data.sides.map((label, number) => option(String(number), label)));
  }
  part("sides").hidden = data.sides.length === 2;
  const allHaveClips = data.ids.every((_, row) => columns.hasClips(row));
  part("clips").closest("label").hidden = allHaveClips;

  function readTools() {
    for (const name of PARTS) state[name] = name === "clips" ? part(name).checked : part(name).value;
  }
  function writeTools() {
    for (const name of PARTS) {
      if (name === "clips") part(name).checked = state.clips;
      else part(name).value = state[name];
    }
  }

  part("tools").addEventListener("input", () => {
    readTools();
    update();
    share();
  });
  part("tools").addEventListener("submit", (event) => event.preventDefault());
  part("reset").addEventListener("click", () => {
    state = { ...fresh(), item: state.item };
    writeTools();
    update();
    share();
  });

  /** Write the state into the address, without what is the default. */
  function share() {
    const usual = fresh();
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (name !== "sides" && value !== usual[name]) parameters.set(name, value === true ? "1" : value);
    }
    onState(parameters);
  }

  // List

  const view = () => ({ ...state, rows, selected, spans });
  const open = (position) => choose(position, { open: true });
  const list = virtualList(part("list"), galleryRows(root.id, data, columns, view, open));

  /** Apply sorting and filters. The selected row stays selected if it is still there. */
  function update() {
    state.sides = sides();
    const before = rows[selected];
    const wanted = state.item && before === undefined ? data.ids.indexOf(state.item) : before;
    rows = columns.select(state);
    spans = columns.spans(state.sides);
    selected = rows.indexOf(wanted);
    list.reset(rows.length);
    part("count").textContent = `${rows.length} of ${data.total} ${data.noun}`;
    part("empty").hidden = rows.length > 0;
    choose(selected >= 0 ? selected : 0, { keep: selected >= 0 || !state.item });
  }

  /**
   * Select a row.
   * @param {number} position Position in the list.
   * @param {boolean} [open] On narrow screens: open the row's page.
   * @param {boolean} [keep] The address stays as it is.
   */
  function choose(position, { open = false, keep = false } = {}) {
    const changed = rows[position] !== shownRow;
    selected = rows.length ? Math.min(Math.max(position, 0), rows.length - 1) : -1;
    list.refresh();
    if (selected >= 0) list.reveal(selected);
    const row = rows[selected];
    if (row !== undefined) part("list").setAttribute("aria-activedescendant", `${root.id}-row-${row}`);
    else part("list").removeAttribute("aria-activedescendant");
    if (!keep && row !== undefined) {
      state.item = data.ids[row];
      share();
    }
    if (open) setOpen(true);
    if (changed) show(row);
  }

  // The selected row

  let shownRow;
  const bars = new Map();

  function show(row) {
    if (player) player.dispose();
    player = null;
    shownRow = row;
    part("detail").classList.toggle("nothing", row === undefined);
    part("stage").replaceChildren();
    if (row === undefined || !active) return;
    const videos = [];
    data.sides.forEach((label, side) => part("stage").append(figure(label, side, row, videos)));
    part("stage").classList.toggle("many", data.sides.length > 2);
    part("transport").hidden = videos.length === 0;
    part("full").textContent = data.prompts[row];
    part("facts").replaceChildren(...factsOf(row));
    part("position").textContent = `${selected + 1} of ${rows.length}`;
    showBars(row);
    player = playInStep(videos, part("scrubber"), {
      fps: data.fps[row] || 8,
      onChange: (playing, time, duration) => {
        const text = playing ? "Pause" : "Play";
        if (part("toggle").textContent !== text) part("toggle").textContent = text;
        part("time").textContent = `${time.toFixed(2)} / ${duration.toFixed(2)} s`;
      },
    });
    player.rate(Number(part("rate").value));
    if (wantsPlay) player.play();
  }

  function figure(label, side, row, videos) {
    const file = data.clips[side][row];
    const caption = element("figcaption", {}, element("span", { textContent: label }));
    caption.append(element("b", { textContent: shown(columns.value(side, 0, row), 3) }));
    const made = element("figure", { className: "clip" });
    const size = `${data.width[row]} / ${data.height[row]}`;
    const missing = (text) => {
      const box = element("div", { className: "missing", textContent: text });
      box.style.aspectRatio = size;
      return box;
    };
    if (file === null) {
      made.append(missing("This clip is not in the folder of the page"), caption);
      return made;
    }
    const video = element("video", { src: file, muted: true, playsInline: true, preload: "auto" });
    video.classList.toggle("pixels", data.width[row] < PIXEL_ART);
    video.style.aspectRatio = size;
    video.setAttribute("aria-label", `${label}: ${data.prompts[row]}`);
    video.addEventListener("error", () => video.replaceWith(missing("This clip cannot be played")));
    video.addEventListener("click", () => toggle());
    videos.push(video);
    made.append(video, caption);
    return made;
  }

  function factsOf(row) {
    const pieces = [`${data.noun.endsWith("pairs") ? "pair" : "clip"} ${data.ids[row]}`];
    for (const name of Object.keys(data.facts)) {
      const value = data.facts[name][row];
      pieces.push(`${plain(name)}: ${typeof value === "number" ? shown(value, 3) : plain(value)}`);
    }
    const seeds = data.seeds.map((side) => side[row]);
    const same = seeds.every((seed) => seed === seeds[0]);
    pieces.push(same ? `seed ${seeds[0]}` : seeds.map((seed, side) => `${data.sides[side]}: seed ${seed}`).join(", "));
    return pieces.map((text) => element("span", { textContent: text }));
  }

  /** Table of all measures: a bar and the number of each side, and the difference as a bar from the middle. */
  function makeBars() {
    const head = element("tr", {}, element("th", { scope: "col", textContent: "score" }));
    for (const label of data.sides) head.append(element("th", { scope: "col", textContent: label }));
    head.append(element("th", { scope: "col", textContent: "difference" }));
    part("bars").replaceChildren(element("thead", {}, head));
    const body = part("bars").appendChild(element("tbody"));
    columns.names.forEach((name, measure) => {
      const line = element("tr", { className: data.measures[measure].kind });
      line.append(element("th", { scope: "row", textContent: plain(name) }));
      const cells = data.sides.map(() => cell("bar"));
      const last = cell("change");
      line.append(...cells.map((one) => one.box), last.box);
      body.append(line);
      bars.set(measure, { cells, last });
    });
  }

  function cell(className) {
    const number = element("span", { className: "number" });
    const bar = element("i");
    return { box: element("td", {}, number, element("span", { className }, bar)), number, bar };
  }

  function showBars(row) {
    if (!bars.size) makeBars();
    for (const [measure, { cells, last }] of bars) {
      const [low, high] = columns.ranges[measure];
      cells.forEach(({ number, bar }, side) => {
        const value = columns.value(side, measure, row);
        number.textContent = shown(value);
        bar.style.width = `${value === null ? 0 : high > low ? 100 * Math.max(0.02, (value - low) / (high - low)) : 100}%`;
      });
      const change = columns.difference(measure, row, state.sides);
      last.number.textContent = signed(change);
      last.number.className = `number ${direction(change)}`;
      const half = spans[measure] && change !== null ? (50 * Math.abs(change)) / spans[measure] : 0;
      last.bar.className = direction(change);
      last.bar.style.width = `${half}%`;
      last.bar.style.left = `${change < 0 ? 50 - half : 50}%`;
    }
  }

  // Playback and keys

  function toggle() {
    if (!player) return;
    player.toggle();
    wantsPlay = part("toggle").textContent === "Pause";
  }
  function step(frames) {
    if (!player) return;
    wantsPlay = false;
    player.step(frames);
  }
  function fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else part("stage").requestFullscreen().catch(() => {});
  }
  part("toggle").addEventListener("click", toggle);
  part("back").addEventListener("click", () => step(-1));
  part("forward").addEventListener("click", () => step(1));
  part("rate").addEventListener("input", () => player && player.rate(Number(part("rate").value)));
  part("screen").addEventListener("click", fullScreen);
  part("previous").addEventListener("click", () => choose(selected - 1));
  part("next").addEventListener("click", () => choose(selected + 1));
  part("close").addEventListener("click", () => setOpen(false));

  /** On narrow screens, the selected row covers the list. */
  function setOpen(open) {
    root.classList.toggle("open", open && narrow.matches);
    if (open && narrow.matches) part("close").focus();
    else if (!open) part("list").focus();
  }

  const moves = {
    ArrowDown: () => selected + 1, j: () => selected + 1, ArrowUp: () => selected - 1, k: () => selected - 1,
    PageDown: () => selected + list.perPage(), PageUp: () => selected - list.perPage(),
    Home: () => 0, End: () => rows.length - 1,
  };
  const actions = {
    " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), f: fullScreen,
    "/": () => part("q").focus(), Escape: () => setOpen(false),
  };
  document.addEventListener("keydown", (event) => {
    if (!active || event.ctrlKey || event.metaKey || event.altKey) return;
    const inField = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && inField) return part("list").focus();
    if (inField || (event.key === " " && event.target.closest("button, a, summary"))) return;
    const move = moves[event.key];
    const action = actions[event.key];
    if (!move && !action) return;
    event.preventDefault();
    if (move) choose(move());
    else action();
  });

  /** Show the gallery in the state of an address. */
  function enter(parameters) {
    const usual = fresh();
    state = { ...usual };
    for (const name of [...PARTS, "item"]) {
      if (parameters.has(name)) state[name] = name === "clips" ? true : parameters.get(name);
    }
    for (const name of ["sort", "by", "dir", "plus", "minus"]) {
      const known = [...part(name).options].some((one) => one.value === state[name]);
      if (!known) state[name] = usual[name]; // a link that somebody edited
    }
    writeTools();
    active = true;
    shownRow = undefined;
    rows = [];
    selected = -1;
    update();
    if (parameters.has("item")) setOpen(true);
  }

  /** Stop everything when another view is shown. */
  function close() {
    active = false;
    list.clear();
    show(undefined);
  }

  return { enter, close };
}
