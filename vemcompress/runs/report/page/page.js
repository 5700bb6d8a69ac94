"use strict";

for (const player of document.querySelectorAll(".player")) {
  const slide = player.querySelector("input"), images = player.querySelectorAll("img");
  slide?.addEventListener("input", () => {
    images.forEach((image, place) => { image.hidden = place !== Number(slide.value); });
    player.querySelector("output").textContent = `step ${images[slide.value].dataset.step}`;
  });
}

for (const compare of document.querySelectorAll(".compare")) {
  const rows = [...compare.querySelectorAll("template.row")].map((row) => [...row.content.children].map((image) => image.src));
  const stage = compare.querySelector(".stage"), wipe = stage.querySelector("input");
  const panels = compare.querySelectorAll(".panels img"), buttons = compare.querySelectorAll(".rows button");
  const picks = compare.querySelectorAll("select"), sides = [".under", ".over"], tags = [".left", ".right"];
  let row = 0;
  const draw = () => {
    panels.forEach((image, column) => { image.src = rows[row][column]; });
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === row)));
    picks.forEach((pick, side) => {
      const image = stage.querySelector(sides[side]), title = pick.selectedOptions[0].textContent;
      image.src = rows[row][pick.value];
      image.alt = title;
      stage.querySelector(tags[side]).textContent = title;
    });
  };
  wipe.addEventListener("input", () => stage.style.setProperty("--at", `${wipe.value}%`));
  buttons.forEach((button, place) => button.addEventListener("click", () => { row = place; draw(); }));
  picks.forEach((pick) => pick.addEventListener("change", draw));
  stage.style.setProperty("--at", `${wipe.value}%`);  // a browser may have kept them
  draw();
}
