// Play several clips in step, with one scrubber for all of them. No imports; defines the global `playInStep`.
"use strict";

/**
 * @param {HTMLVideoElement[]} videos Clips of about the same length. The longest one leads, the others follow it.
 * @param {HTMLInputElement} scrubber A range input; its value becomes the time in seconds.
 * @param {object} [options]
 * @param {number} [options.fps] Frames per second, for single steps. 8 by default.
 * @param {function(boolean, number, number): void} [options.onChange] Called with: is it playing, time, duration.
 * @returns {{play: function, pause: function, toggle: function, seek: function, step: function, rate: function,
 *   dispose: function}} `seek` takes seconds, `step` a number of frames, `rate` a factor on the speed.
 */
function playInStep(videos, scrubber, options = {}) {
  const fps = options.fps || 8;
  const maxDrift = 0.6 / fps; // seconds; a follower that is further away jumps to the leader's time
  let playing = false;
  let resumeAfterScrub = false;
  let request = 0;
  const lengthOf = (video) => (Number.isFinite(video.duration) ? video.duration : 0);
  const leader = () => videos.reduce((best, video) => (lengthOf(video) > lengthOf(best) ? video : best), videos[0]);
  const duration = () => (videos.length ? lengthOf(leader()) : 0);

  function show() {
    const time = videos.length ? leader().currentTime : 0;
    scrubber.max = String(duration());
    scrubber.step = "any";
    scrubber.value = String(time);
    if (options.onChange) options.onChange(playing, time, duration());
  }

  function start(video) {
    // A clip that ended is at its last frame: it waits there for the longest one.
    if (!video.ended) video.play().catch(() => {}); // refused while the page is in the background
  }

  function tick() {
    const first = leader();
    if (first.ended) {
      for (const video of videos) video.currentTime = 0;
      videos.forEach((video) => video.play().catch(() => {}));
    } else if (!first.seeking) {
      for (const video of videos) {
        const behind = first.currentTime - video.currentTime;
        const over = first.currentTime >= lengthOf(video);
        if (video === first || video.seeking || over) continue;
        if (Math.abs(behind) > maxDrift) video.currentTime = first.currentTime;
        if (video.paused) start(video); // it had ended before somebody moved the scrubber back
      }
    }
    show();
    request = playing ? requestAnimationFrame(tick) : 0;
  }

  function play() {
    if (playing || !videos.length) return;
    playing = true;
    if (leader().ended) seek(0);
    videos.forEach(start);
    request = requestAnimationFrame(tick);
  }

  function pause() {
    playing = false;
    cancelAnimationFrame(request);
    videos.forEach((video) => video.pause());
    show();
  }

  function seek(seconds) {
    const time = Math.min(Math.max(seconds, 0), duration());
    for (const video of videos) video.currentTime = Math.min(time, lengthOf(video));
    show();
  }

  /** Stop, and move by whole frames; to the middle of a frame, so that rounding cannot show its neighbour. */
  function step(frames) {
    pause();
    const count = Math.max(1, Math.round(duration() * fps));
    const frame = Math.min(Math.floor(leader().currentTime * fps + 1e-6) + frames, count - 1);
    seek((Math.max(frame, 0) + 0.5) / fps);
  }

  function rate(factor) {
    for (const video of videos) video.playbackRate = factor;
  }

  const onInput = () => {
    if (playing) {
      resumeAfterScrub = true;
      pause();
    }
    seek(Number(scrubber.value));
  };
  const onRelease = () => {
    if (resumeAfterScrub) play();
    resumeAfterScrub = false;
  };

  for (const video of videos) {
    video.muted = true;
    video.loop = false;
    video.playsInline = true;
    video.addEventListener("loadedmetadata", show);
    video.addEventListener("seeked", show);
  }
  scrubber.addEventListener("input", onInput);
  scrubber.addEventListener("change", onRelease);
  show();

  function dispose() {
    pause();
    scrubber.removeEventListener("input", onInput);
    scrubber.removeEventListener("change", onRelease);
    for (const video of videos) {
      video.removeEventListener("loadedmetadata", show);
      video.removeEventListener("seeked", show);
    }
  }

  return { play, pause, toggle: () => (playing ? pause() : play()), seek, step, rate, dispose };
}
