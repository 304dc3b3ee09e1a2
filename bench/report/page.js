"use strict";

// Two of the three versions of every image lie over each other, and a slider moves the divider between them.

const form = document.querySelector(".choice");
const SIDES = ["left", "right"];

function choose(changed) {
  const other = SIDES.find((side) => side !== changed);
  const chosen = form.elements[changed].value;
  if (form.elements[other].value === chosen) form.elements[other].value = document.body.dataset[changed];
  for (const side of SIDES) document.body.dataset[side] = form.elements[side].value;
  for (const input of document.querySelectorAll(".stage input")) split(input);
}

function split(input) {
  const stage = input.parentElement;
  stage.style.setProperty("--split", `${input.value}%`);
  const name = (side) => stage.querySelector(`.${document.body.dataset[side]} .tag`).textContent;
  input.setAttribute("aria-valuetext", `${input.value} % ${name("left")}, ${100 - input.value} % ${name("right")}`);
}

if (form) {
  for (const side of SIDES) document.body.dataset[side] = form.elements[side].value;
  form.addEventListener("change", ({ target }) => {
    if (target.name === "row") document.body.classList.toggle("slider", !target.checked);
    else choose(target.name);
  });
  document.addEventListener("input", ({ target }) => target.matches(".stage input") && split(target));
  document.body.classList.add("slider"); // without a script, the images stand side by side
  form.hidden = false;
  choose("left");
}

Promise.all([...document.images].map((image) => image.decode())).then(
  () => (document.body.dataset.state = "done"),
  (error) => (document.body.dataset.state = `error ${error}`),
);
