"use strict";

// A sweep: what the pointer is at is lit up wherever its trial stands.
const ofTrials = [...document.querySelectorAll("[data-trial]")];
for (const mark of ofTrials) {
  mark.addEventListener("pointerenter", () => {
    document.querySelector("main").classList.add("faded");
    for (const each of ofTrials) each.classList.toggle("lit", each.dataset.trial === mark.dataset.trial);
  });
  mark.addEventListener("pointerleave", () => {
    document.querySelector("main").classList.remove("faded");
    for (const each of ofTrials) each.classList.remove("lit");
  });
}

// Charts: the pointer shows the values at the nearest step.
for (const chart of document.querySelectorAll(".chart:not(.trials)")) {
  const svg = chart.querySelector("svg");
  if (!svg) continue;
  const series = JSON.parse(chart.querySelector("script").textContent);
  const pointer = chart.querySelector(".pointer");
  const output = chart.querySelector("output");
  const width = svg.viewBox.baseVal.width;
  const height = svg.viewBox.baseVal.height;
  const nearest = (points, x) =>
    points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const found = series.map((each) => ({ ...each, point: nearest(each.points, x) }));
    const at = found[0].point[0];
    pointer.innerHTML =
      `<line x1="${at}" x2="${at}" y1="12" y2="${height - 34}"/>` +
      found.map((each) => `<circle class="${each.style}" cx="${each.point[0]}" cy="${each.point[1]}" r="4"/>`).join("");
    const values = found.map((each) => (series.length > 1 ? `${each.name} ${each.point[3]}` : each.point[3]));
    output.textContent = `step ${found[0].point[2]}: ${values.join(", ")}`;
  });
  svg.addEventListener("pointerleave", () => {
    pointer.innerHTML = "";
    output.textContent = "";
  });
}

// Samples: the step and the picture to compare with hold for all rows, the divider for each.
const data = document.getElementById("samples");
if (data) {
  const { steps, rows } = JSON.parse(data.textContent);
  const stepInput = document.getElementById("step");
  const beforeInput = document.getElementById("before");
  const views = [...document.querySelectorAll(".sample")];

  const show = () => {
    const i = Number(stepInput.value);
    document.getElementById("step-shown").textContent = steps[i];
    views.forEach((view, n) => {
      const before = beforeInput.value === "first" ? rows[n].sr[0] : rows[n][beforeInput.value];
      view.querySelector(".before").src = before.src;
      view.querySelector(".after").src = rows[n].sr[i].src;
      view.querySelector(".tag.left").textContent = before.label;
      view.querySelector(".tag.right").textContent = rows[n].sr[i].label;
    });
  };
  stepInput.addEventListener("input", show);
  beforeInput.addEventListener("change", show);
  for (const view of views) {
    const pair = view.querySelector(".pair");
    const divider = pair.querySelector("input");
    divider.addEventListener("input", () => pair.style.setProperty("--cut", `${divider.value}%`));
    pair.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && event.buttons === 0) return;
      const box = pair.getBoundingClientRect();
      divider.value = Math.min(100, Math.max(0, ((event.clientX - box.left) / box.width) * 100));
      divider.dispatchEvent(new Event("input"));
    });
  }
  show();
}
