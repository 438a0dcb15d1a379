"use strict";
const PLAY_MS = 600;

for (const box of document.querySelectorAll("[data-sheets]")) {
  const slider = box.querySelector("input");
  const label = box.querySelector("output");
  const play = box.querySelector("[data-play]");
  const pictures = [...box.querySelectorAll("img")];
  let timer = 0;

  const show = () => {
    pictures.forEach((picture, index) => { picture.hidden = index !== Number(slider.value); });
    label.textContent = pictures[Number(slider.value)].dataset.label;
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.setAttribute("aria-pressed", "false");
    play.textContent = "Play";
  };
  const next = () => {
    slider.value = String((Number(slider.value) + 1) % pictures.length);
    show();
  };

  play.hidden = pictures.length < 2;
  slider.addEventListener("input", () => { stop(); show(); });
  play.addEventListener("click", () => {
    if (timer) { stop(); return; }
    timer = setInterval(next, PLAY_MS);
    play.setAttribute("aria-pressed", "true");
    play.textContent = "Stop";
    next();
  });
}
