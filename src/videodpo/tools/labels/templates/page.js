"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const FORMAT = "videodpo votes";
const CHOICES = ["left", "right", "tie", "skip"];
const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", s: "skip", S: "skip" };
const $ = (id) => document.getElementById(id);

// One step is one question about one item.
const steps = data.items.flatMap((item) => data.questions.map((question) => ({ ...item, question })));
const known = new Set(steps.map(keyOf));
let rater = "";
let votes = new Map(); // by keyOf
let at = 0;
let shownAt = 0;

// A repeat of a pair has its sides swapped, so that it has a key of its own.
function keyOf(step) {
  return [step.left, step.right, step.question].join(" ");
}

function fail(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
}

// --- votes: kept in the browser, saved to a file and loaded from it

function storageName() {
  return ["videodpo labels", data.run, data.round, data.label_set, rater].join("|");
}

function keep() {
  try {
    localStorage.setItem(storageName(), JSON.stringify([...votes.values()]));
  } catch (error) {
    fail(`This browser does not keep your votes (${error.name}): save them to a file before you close the page.`);
  }
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(storageName()) || "[]");
  } catch (error) {
    fail(`This browser cannot read earlier votes (${error.name}): load a file that you saved.`);
    return [];
  }
}

// The later of two votes on the same step counts.
function add(found) {
  for (const vote of found) {
    const before = votes.get(keyOf(vote));
    if (!before || before.time <= vote.time) votes.set(keyOf(vote), vote);
  }
}

function save() {
  const { run, round, of, seed, label_set } = data;
  const content = { format: FORMAT, version: 1, run, round, of, seed, label_set, rater, votes: [...votes.values()] };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
  const words = ["votes", run, `round${round}`, label_set, rater].map((word) => word.replace(/[^\p{L}\p{N}._-]+/gu, "_"));
  link.download = `${words.join("-")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  $("said").textContent = `${votes.size} votes saved as ${link.download}.`;
}

// Returns what is wrong with the content of a file; "" if nothing is.
function fault(content) {
  if (!content || content.format !== FORMAT || !Array.isArray(content.votes)) return "this is not a file of votes";
  if (content.run !== data.run || content.round !== data.round || content.label_set !== data.label_set) {
    const page = (one) => `run ${one.run}, round ${one.round}, page ${one.label_set}`;
    return `it belongs to another page (${page(content)}; this page is ${page(data)})`;
  }
  if (content.rater !== rater) return `its rater is ${content.rater}; choose "Another rater" and start with that name`;
  const isVote = (vote) => vote && known.has(keyOf(vote)) && CHOICES.includes(vote.choice) && typeof vote.time === "string";
  return content.votes.every(isVote) ? "" : "it has votes that this page does not know";
}

async function load(file) {
  let content;
  try {
    content = JSON.parse(await file.text());
  } catch (error) {
    fail(`${file.name} was not loaded: ${error.message}`);
    return;
  }
  const wrong = fault(content);
  fail(wrong && `${file.name} was not loaded: ${wrong}.`);
  if (wrong) return;
  add(content.votes);
  keep();
  $("said").textContent = `${content.votes.length} votes loaded from ${file.name}.`;
  show(firstOpen());
}

// --- steps

function firstOpen() {
  const open = steps.findIndex((step) => !votes.has(keyOf(step)));
  return open < 0 ? steps.length : open;
}

function show(step) {
  at = step;
  const isDone = at === steps.length;
  $("start").hidden = true;
  $("voting").hidden = isDone;
  $("done").hidden = !isDone;
  $("files").hidden = false;
  $("rater-name").textContent = rater;
  if (isDone) {
    player.pause();
    $("save").classList.add("main");
    $("thanks").focus();
    return;
  }
  $("save").classList.remove("main");
  const { question, prompt } = steps[at];
  const words = question.replaceAll("_", " ");
  $("question").textContent = question === "overall" ? "Which clip is better?" : `Which clip is better in ${words}?`;
  $("question").classList.toggle("dimension", question !== "overall");
  $("prompt").textContent = prompt;
  $("progress").max = steps.length;
  $("progress").value = votes.size;
  $("count").textContent = `${at + 1} of ${steps.length}, ${votes.size} done`;
  $("back").disabled = at === 0;
  const before = votes.get(keyOf(steps[at]));
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(Boolean(before) && before.choice === button.dataset.choice));
  }
  $("question").focus({ preventScroll: true });
  shownAt = performance.now();
  showClips(steps[at]);
}

function vote(choice) {
  const { left, right, question } = steps[at];
  fail("");
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  add([{ left, right, question, choice, seconds, time: new Date().toISOString() }]);
  keep();
  show(firstOpen());
}

function back() {
  if (at > 0) show(at - 1);
}

// --- player

const clips = [$("left"), $("right")];
let wantsToPlay = !matchMedia("(prefers-reduced-motion: reduce)").matches;
const player = playInStep(clips, $("scrub"), {
  fps: 15, // of no clip: it keeps the clips within 0.04 seconds of each other
  onChange: (playing) => { $("play").textContent = playing ? "Pause" : "Play"; },
});

function showClips(step) {
  player.pause();
  clips.forEach((clip, side) => {
    const file = `${encodeURIComponent(data.clips)}/${[step.left, step.right][side]}.mp4`;
    if (clip.getAttribute("src") === file) return; // the next question about the same pair
    clip.src = file;
    clip.style.aspectRatio = `${step.width} / ${step.height}`;
    clip.classList.toggle("pixels", step.width < 160);
  });
  if (wantsToPlay) player.play();
}

function toggle() {
  wantsToPlay = !wantsToPlay;
  player.toggle();
}

for (const clip of clips) {
  clip.addEventListener("error", () => fail(`A clip does not load: the folder ${data.clips} must be next to this page.`));
}
$("scrub").addEventListener("pointerup", () => $("scrub").blur()); // so that the arrow keys vote again
$("play").addEventListener("click", toggle);

// --- controls

for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => vote(button.dataset.choice));
}
$("back").addEventListener("click", back);
$("review").addEventListener("click", back);
$("save").addEventListener("click", save);
$("load").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => {
  if ($("file").files.length) load($("file").files[0]);
  $("file").value = "";
});
$("leave").addEventListener("click", start);
$("start").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = $("rater").value.replace(/[\p{C}\p{Z}]+/gu, " ").trim();
  if (!rater) return;
  votes = new Map();
  fail("");
  add(kept());
  show(firstOpen());
});

document.addEventListener("keydown", (event) => {
  const on = event.target.tagName;
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || on === "INPUT" || $("voting").hidden) return;
  if (event.key in KEYS) vote(KEYS[event.key]);
  else if (event.key === "Backspace") back();
  else if (event.key === " " && on !== "BUTTON") toggle();
  else return;
  event.preventDefault();
});

function start() {
  player.pause();
  $("said").textContent = "";
  for (const id of ["voting", "done", "files"]) $(id).hidden = true;
  $("rater-name").textContent = "";
  $("start").hidden = false;
  $("rater").focus();
}

start();
