// Takes a picture by the camera.

import { element, show } from "./elements.js";

let stream = null;

/** Offers the camera where the browser has one to give; calls `take` with each picture taken. */
export function offerCamera(take, complain) {
  if (!navigator.mediaDevices?.getUserMedia) return;
  show(true, "camera");
  element("camera").addEventListener("click", () => open(complain));
  element("stop").addEventListener("click", closeCamera);
  element("shoot").addEventListener("click", async () => {
    const picture = await frame();
    closeCamera();
    if (picture) take(picture);
  });
}

/** Lets go of the camera. */
export function closeCamera() {
  if (stream === null) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  element("video").srcObject = null;
  show(false, "video", "shoot", "stop");
  show(true, "camera");
  element("camera").focus();
}

async function open(complain) {
  const video = element("video");
  show(false, "camera"); // asked twice, it would give two streams, of which one is never let go
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    show(true, "camera");
    element("camera").focus();
    complain("There is no camera that this page may use.");
    return;
  }
  video.srcObject = stream;
  show(true, "video", "stop");
  await new Promise((resolve) => {
    if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) resolve();
    else video.addEventListener("loadeddata", resolve, { once: true });
  });
  if (stream === null) return;
  show(true, "shoot");
  element("shoot").focus();
}

function frame() {
  const video = element("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
