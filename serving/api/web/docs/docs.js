// Shows the OpenAPI document of this server, and lets its operations be tried.
"use strict";

const METHODS = ["get", "post"];

/** An element with attributes and children; strings become text, so nothing that is shown can be markup. */
function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children.flat());
  return made;
}

function table(head, rows) {
  const cells = (kind, texts) => element("tr", {}, texts.map((text) => element(kind, {}, text)));
  return rows.length ? [element("table", {}, cells("th", head), rows.map((row) => cells("td", row)))] : [];
}

function resolve(api, value) {
  return value.$ref ? value.$ref.split("/").slice(1).reduce((node, key) => node[key], api) : value;
}

/** A schema in a few words. */
function words(api, schema) {
  schema = resolve(api, schema);
  const either = schema.oneOf || schema.anyOf;
  if (either) return either.map((each) => words(api, each)).join(" or ");
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" or ");
  const most = Number.isSafeInteger(schema.maximum) ? schema.maximum : "2^64 - 1"; // which a number here cannot be
  const range = "minimum" in schema ? ` ${schema.minimum} to ${most}` : "";
  if (schema.type === "array") return `list of ${words(api, schema.items)}, ${schema.minItems} to ${schema.maxItems}`;
  return (schema.title && schema.type === "object" ? schema.title : schema.type) + range;
}

function fields(api, schema) {
  const { properties = {}, required = [] } = resolve(api, schema);
  return Object.entries(properties).map(([name, field]) => [
    element("code", {}, name),
    words(api, field),
    required.includes(name) ? "required" : JSON.stringify(field.default ?? null),
    field.description || "",
  ]);
}

function parameters(api, operation) {
  return (operation.parameters || []).map((each) => resolve(api, each));
}

async function send(method, path, body, accept, output) {
  output.replaceChildren("…");
  const headers = { Accept: accept, ...(body === null ? {} : { "Content-Type": "application/json" }) };
  try {
    const reply = await fetch(path, { method, headers, body });
    const lines = [`${reply.status} ${reply.statusText}`, ...[...reply.headers].map((each) => each.join(": "))];
    const type = reply.headers.get("content-type") || "";
    const content = await reply.blob();
    let shown = `${content.size} bytes`;
    if (type.startsWith("image/")) shown = element("img", { src: URL.createObjectURL(content), alt: "the reply" });
    else if (/json|text/.test(type)) shown = element("pre", {}, (await content.text()).slice(0, 20000));
    output.replaceChildren(element("pre", {}, lines.join("\n")), shown);
  } catch (error) {
    output.replaceChildren(String(error));
  }
}

function attempt(api, method, path, operation) {
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  const example = content && Object.values(content.examples)[0].value;
  const body = content && element("textarea", { value: JSON.stringify(example, null, 2), ariaLabel: "body" });
  const inputs = parameters(api, operation)
    .filter((each) => each.in === "path" || each.in === "query")
    .map((each) => [each, element("input", { value: each.example ?? "", placeholder: each.name, ariaLabel: each.name })]);
  const types = Object.keys((operation.responses["200"] || {}).content || {});
  const accept = element("select", { ariaLabel: "Accept" }, types.map((type) => element("option", {}, type)));
  const output = element("div");
  const form = element("form", {}, body || [], inputs.map(([, input]) => input), accept, element("button", {}, "Send"));
  form.onsubmit = (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let url = path.slice(1);
    for (const [each, input] of inputs) {
      if (each.in === "path") url = url.replace(`{${each.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(each.name, input.value);
    }
    send(method.toUpperCase(), query.size ? `${url}?${query}` : url, body ? body.value : null, accept.value, output);
  };
  return [form, output];
}

function section(api, method, path, operation) {
  const schema = operation.requestBody && operation.requestBody.content["application/json"].schema;
  const replies = Object.entries(operation.responses).map(([status, reply]) => {
    reply = resolve(api, reply);
    return [status, reply.description, Object.keys(reply.content || {}).join(", ")];
  });
  const asked = parameters(api, operation).map((each) => [
    element("code", {}, each.name),
    each.in,
    words(api, each.schema),
    each.description || "",
  ]);
  return element(
    "details",
    { id: operation.operationId },
    element("summary", {}, element("b", {}, method.toUpperCase()), element("code", {}, path), ` ${operation.summary}`),
    element("p", {}, operation.description || ""),
    schema ? table(["field", "value", "unless given", ""], fields(api, schema)) : [],
    table(["parameter", "in", "value", ""], asked),
    table(["status", "", "types"], replies),
    attempt(api, method, path, operation),
  );
}

async function show() {
  const api = await (await fetch("openapi.json")).json();
  const sections = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => method in item).map((method) => section(api, method, path, item[method])),
  );
  document.getElementById("api").replaceChildren(
    element("h1", {}, `${api.info.title} ${api.info.version}`),
    element("p", {}, api.info.description),
    element("p", {}, element("a", { href: "openapi.json" }, "openapi.json")),
    ...sections,
  );
}

show();
