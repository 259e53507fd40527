// JSON with integers of 64 bits, which numbers here cannot hold: they are BigInts.

/** What a field says: an integer where it is one, else the text, of which the server says what is wrong. */
export function integer(text) {
  return /^\s*-?[0-9]{1,40}\s*$/.test(text) ? BigInt(text.trim()) : text;
}

/** The same for any number. */
export function number(text) {
  return text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** One line, as Python's `json.dumps` writes it; absent fields are left out. */
export function write(value) {
  if (typeof value === "bigint") return value.toString();
  if (Array.isArray(value)) return `[${value.map(write).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}: ${write(field)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** One field a line. */
export function writeLines(body) {
  const fields = Object.entries(body).filter(([, field]) => field !== undefined);
  return `{\n${fields.map(([name, field]) => `  ${JSON.stringify(name)}: ${write(field)}`).join(",\n")}\n}`;
}
