// Views of the page, and the address of each: #<view>?<state>. Without scripts, all views are shown below each other.
"use strict";

(() => {
  const views = [...document.querySelectorAll("main > [data-view]")];
  const links = [...document.querySelectorAll("nav a")];
  const galleries = new Map();
  let current = null;

  for (const root of document.querySelectorAll("[data-gallery]")) {
    const name = root.dataset.gallery;
    const share = (parameters) => {
      const text = parameters.toString();
      history.replaceState(null, "", `#${name}${text ? `?${text}` : ""}`);
    };
    galleries.set(name, gallery(root, window.galleries[name], share));
  }

  function route() {
    const [name, text = ""] = location.hash.slice(1).split("?");
    const view = views.find((one) => one.dataset.view === name) || views[0];
    const known = view.dataset.view;
    if (current && current !== known && galleries.has(current)) galleries.get(current).close();
    for (const one of views) one.hidden = one !== view;
    document.body.dataset.shows = galleries.has(known) ? "gallery" : "text";
    for (const link of links) {
      if (link.hash === `#${known}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (galleries.has(known)) galleries.get(known).enter(new URLSearchParams(text));
    if (current !== known) scrollTo(0, 0);
    current = known;
  }

  // On narrow screens the filters are closed at first.
  if (matchMedia("(max-width: 55rem)").matches) {
    for (const filters of document.querySelectorAll("details.filters")) filters.open = false;
  }
  document.documentElement.classList.add("scripted");
  addEventListener("hashchange", route);
  route();

  // The few clips of the first view play while they are in sight.
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !still) target.play().catch(() => {});
      else target.pause();
    }
  });
  for (const video of document.querySelectorAll("video.sample")) watcher.observe(video);
})();
