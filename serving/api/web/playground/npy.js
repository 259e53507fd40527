// NumPy's file format, for what the server sends: uint8 (N, H, W, C), in C order.

const MAGIC = "\x93NUMPY";

/** The pictures of a reply. `picture(i)` is ImageData. */
export class Pictures {
  constructor(buffer) {
    const bytes = new Uint8Array(buffer);
    if (String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC) throw new Error("The reply is no .npy file.");
    const view = new DataView(buffer);
    const [length, start] = bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
    const header = new TextDecoder("latin1").decode(bytes.subarray(start, start + length));
    const shape = /'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+), (\d+), (\d+), (\d+)\)/.exec(header);
    if (!shape) throw new Error(`The reply is no array of pictures: ${header}`);
    [this.length, this.height, this.width, this.channels] = shape.slice(1).map(Number);
    this.bytes = bytes.subarray(start + length);
  }

  picture(i) {
    const size = this.height * this.width;
    const image = new ImageData(this.width, this.height);
    const { channels } = this;
    let from = i * size * channels;
    for (let to = 0; to < 4 * size; to += 4, from += channels) {
      image.data[to] = this.bytes[from];
      image.data[to + 1] = this.bytes[channels === 1 ? from : from + 1];
      image.data[to + 2] = this.bytes[channels === 1 ? from : from + 2];
      image.data[to + 3] = 255;
    }
    return image;
  }
}
