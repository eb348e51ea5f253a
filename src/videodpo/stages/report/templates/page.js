const videos = [...document.querySelectorAll("video")];
const playback = document.getElementById("playback");
let paused = matchMedia("(prefers-reduced-motion: reduce)").matches;
const visible = new Set();

// Browsers limit the number of clips that they decode at once, so clips outside of the viewport are paused.
function update() {
  playback.textContent = paused ? "Play all" : "Pause all";
  playback.setAttribute("aria-pressed", String(paused));
  for (const video of videos) {
    if (!paused && visible.has(video)) video.play().catch(() => {});
    else video.pause();
  }
}
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.isIntersecting ? visible.add(entry.target) : visible.delete(entry.target);
  update();
}, { rootMargin: "200px" });
videos.forEach((video) => watcher.observe(video));
playback.addEventListener("click", () => {
  paused = !paused;
  if (!paused) videos.forEach((video) => { video.currentTime = 0; });
  update();
});

// A click shows both clips of a card side by side in full screen.
for (const duo of document.querySelectorAll(".duo")) {
  duo.addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : duo.requestFullscreen()));
}

function filter(gallery) {
  const search = document.querySelector(`[data-filter="${gallery}"]`).value.trim().toLowerCase();
  const pressed = document.querySelector(`[data-for="${gallery}"][aria-pressed="true"]`);
  const sign = pressed ? pressed.dataset.sign : "all";
  for (const card of document.getElementById(gallery).children) {
    card.hidden = !card.dataset.prompt.includes(search) || (sign !== "all" && card.dataset.sign !== sign);
  }
}
for (const input of document.querySelectorAll("[data-filter]")) {
  input.addEventListener("input", () => filter(input.dataset.filter));
}
for (const button of document.querySelectorAll("[data-for]")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll(`[data-for="${button.dataset.for}"]`)) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    filter(button.dataset.for);
  });
}
