// The decoded image, and the original beside it behind a slider.

export class Comparison {
  #element;
  #original = null;

  /** @param {(id: string) => HTMLElement} element finds the elements of the page */
  constructor(element) {
    this.#element = element;
    element("split").addEventListener("input", () => this.#split());
  }

  /** Paints the decoded image: four bytes a pixel. */
  showDecoded(rgba, width, height) {
    const canvas = this.#element("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
    this.#arrange();
  }

  /** Takes an encoded image of a kind that the browser reads; rejects if it is none. */
  async showOriginal(file) {
    this.#original = await createImageBitmap(file);
    this.#arrange();
  }

  // An original of another size is scaled to the decoded one, as both are drawn over each other.
  #arrange() {
    const [canvas, original] = [this.#element("canvas"), this.#element("original")];
    const both = this.#original !== null;
    if (both) {
      original.width = canvas.width;
      original.height = canvas.height;
      original.getContext("2d").drawImage(this.#original, 0, 0, canvas.width, canvas.height);
    }
    for (const id of ["original", "divider", "slider"]) this.#element(id).hidden = !both;
    for (const tag of document.querySelectorAll(".tag")) tag.hidden = !both;
    this.#split();
  }

  #split() {
    const { value } = this.#element("split");
    this.#element("stage").style.setProperty("--split", `${value}%`);
    this.#element("split").setAttribute("aria-valuetext", `${value} % decoded, ${100 - value} % original`);
  }

  /** Offers the decoded image as a PNG. */
  save(name) {
    this.#element("canvas").toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${name.replace(/\.uigc$/, "")}.png`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}
