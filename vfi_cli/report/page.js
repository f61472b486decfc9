"use strict";

// Light or dark: as the system says, until the button is pressed.
const root = document.documentElement;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
document.getElementById("theme").addEventListener("click", () => {
  const now = root.dataset.theme || (dark.matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

for (const figure of document.querySelectorAll(".slider")) {
  const stage = figure.querySelector(".stage");
  const handle = figure.querySelector(".handle");
  const pictures = [...stage.querySelectorAll("img")];
  let position = 50; // percent of the width that the left picture has

  const move = (to) => {
    position = Math.min(100, Math.max(0, to));
    stage.style.setProperty("--at", position + "%");
    handle.setAttribute("aria-valuenow", Math.round(position));
  };

  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    move(((event.clientX - box.left) / box.width) * 100);
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
    handle.focus({ preventScroll: true });
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });

  handle.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 2;
    const to = {
      ArrowLeft: position - step,
      ArrowDown: position - step,
      ArrowRight: position + step,
      ArrowUp: position + step,
      PageDown: position - 10,
      PageUp: position + 10,
      Home: 0,
      End: 100,
    }[event.key];
    if (to === undefined) return;
    move(to);
    event.preventDefault();
  });

  const [left, right] = figure.querySelectorAll("select");
  if (!left) continue;
  const choose = (event) => {
    // A picture stands on one side only: choosing it on the other exchanges them.
    const other = event.target === left ? right : left;
    if (left.value === right.value) other.value = event.target.dataset.was;
    pictures.forEach((picture, number) => {
      const side = { [left.value]: "left", [right.value]: "right" }[number];
      picture.className = side || "aside";
    });
    for (const list of [left, right]) list.dataset.was = list.value;
    const [first, second] = [left, right].map((list) => list.selectedOptions[0].label);
    handle.setAttribute("aria-label", `Border between ${first} and ${second}`);
  };
  for (const list of [left, right]) {
    list.dataset.was = list.value;
    list.addEventListener("change", choose);
  }
}
