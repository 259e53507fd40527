// Plays frames that are here already, each at its own time: 30 a second, whatever the screen's rate.

import { draw } from "./canvas.js";

export const RATE = 30; // frames a second

/** Draws on `canvas`. `onframe(i)` hears of every frame that is shown, `onend` of the end of a way that is no loop. */
export class Player {
  constructor(canvas, { onframe = () => {}, onend = () => {} } = {}) {
    this.canvas = canvas;
    this.frames = null;
    this.frame = 0;
    this.loop = true;
    this.onframe = onframe;
    this.onend = onend;
    this.ticket = 0;
  }

  get playing() {
    return this.ticket !== 0;
  }

  /** Takes Pictures; the frame that is shown stays where it can. */
  load(frames, rate = RATE) {
    this.frames = frames;
    this.rate = rate;
    this.seek(Math.min(this.frame, frames.length - 1));
  }

  seek(frame) {
    this.frame = frame;
    this.began = performance.now() - (1000 * frame) / (this.rate ?? RATE);
    this.show();
  }

  play() {
    if (this.playing || !this.frames) return;
    if (!this.loop && this.frame >= this.frames.length - 1) this.frame = 0;
    this.seek(this.frame);
    this.ticket = requestAnimationFrame(() => this.tick());
  }

  pause() {
    cancelAnimationFrame(this.ticket);
    this.ticket = 0;
  }

  tick() {
    // performance.now() and not the time that is handed in, which lies before `began` at first.
    const due = Math.floor(((performance.now() - this.began) * this.rate) / 1000 + 1e-6);
    const { length } = this.frames;
    if (due >= length && !this.loop) {
      this.frame = length - 1;
      this.show();
      this.pause();
      this.onend();
      return;
    }
    if (due % length !== this.frame) {
      this.frame = due % length;
      this.show();
    }
    if (this.ticket) this.ticket = requestAnimationFrame(() => this.tick());
  }

  show() {
    if (!this.frames) return;
    draw(this.canvas, this.frames.picture(this.frame));
    this.canvas.dataset.frame = this.frame;
    this.onframe(this.frame);
  }
}
