// Records frames as WebM in the browser, without work for the server.

import { RATE } from "./player.js";

const TYPE = "video/webm";

export const canRecord = () => Boolean(globalThis.MediaRecorder?.isTypeSupported(TYPE));

/** Plays `frames` once, each pixel enlarged `scale` times, and returns the recording. It takes as long as they last. */
export async function record(frames, scale, signal) {
  const canvas = document.createElement("canvas");
  const small = document.createElement("canvas");
  const first = frames.picture(0);
  [small.width, small.height] = [first.width, first.height];
  [canvas.width, canvas.height] = [first.width * scale, first.height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  const show = (i) => {
    small.getContext("2d").putImageData(frames.picture(i), 0, 0);
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
  };
  show(0);
  const recorder = new MediaRecorder(canvas.captureStream(RATE), { mimeType: TYPE, videoBitsPerSecond: 8e6 });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  const began = performance.now();
  for (let i = 0; i < frames.length && !signal.aborted; i += 1) {
    show(i);
    const due = began + (1000 * (i + 1)) / RATE;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
  }
  recorder.stop();
  await stopped;
  return new Blob(parts, { type: TYPE });
}
