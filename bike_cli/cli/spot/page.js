"use strict";
const video = document.querySelector("video");
const missing = document.getElementById("no-video");
const give_up = () => {
  video.hidden = true;
  missing.hidden = false;
};
video.addEventListener("error", give_up);
if (video.error) give_up();
document.addEventListener("click", (event) => {
  const target = event.target.closest("[data-start]");
  if (!target || video.hidden) return;
  event.preventDefault();
  video.currentTime = Number(target.getAttribute("data-start"));
  video.play().catch(() => {});
});
