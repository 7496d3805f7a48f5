// The API as its OpenAPI document describes it: each route with its parameters, body, responses and a call.

import { byId, fill, h } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const DEEPEST = 3;

let schemas = {};

async function start() {
  const response = await fetch("/openapi.json");
  if (!response.ok) {
    fill(byId("routes"), h("p", { class: "problem", role: "alert" }, `/openapi.json: HTTP ${response.status}`));
    return;
  }
  const api = await response.json();
  schemas = api.components?.schemas ?? {};
  const routes = Object.entries(api.paths).flatMap(([path, of]) =>
    METHODS.filter((method) => of[method]).map((method) => ({ method, path, ...of[method] })),
  );
  fill(byId("version"), api.info.version);
  fill(byId("contents"), routes.map((route) => h("li", {}, h("a", { href: `#${idOf(route)}` }, nameOf(route)))));
  fill(byId("routes"), about(api.info.description), routes.map(drawn));
  if (location.hash) byId(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

/** Paragraphs and lists of the little Markdown that the description has. */
function about(text) {
  return text.trim().split(/\n\n+/).map((block) =>
    block.startsWith("- ")
      ? h("ul", { class: "limits" }, block.split("\n").map((line) => h("li", {}, coded(line.slice(2)))))
      : h("p", {}, coded(block)),
  );
}

const coded = (text) => text.split("`").map((piece, n) => (n % 2 ? h("code", {}, piece) : piece));
const nameOf = ({ method, path }) => `${method.toUpperCase()} ${path}`;
const idOf = ({ method, path }) => `${method}-${path.replaceAll(/[^a-z0-9]+/gi, "-").replaceAll(/^-|-$/g, "")}`;

function drawn(route) {
  const body = Object.entries(route.requestBody?.content ?? {})[0];
  const responses = Object.entries(route.responses ?? {}).filter(([status]) => status < "400");
  return h(
    "section", { id: idOf(route), "aria-labelledby": `${idOf(route)}-title` },
    h("h2", { id: `${idOf(route)}-title` }, h("code", {}, nameOf(route))),
    h("p", {}, route.summary ?? ""),
    route.description && route.description !== route.summary && h("p", { class: "quiet" }, coded(route.description)),
    route.parameters?.length && [h("h3", {}, "Parameters"), rows(route.parameters.map(ofParameter))],
    body && [h("h3", {}, `Body, ${body[0]}`), rows(fields(body[1].schema))],
    responses.map(([status, { content }]) => {
      const [kind, { schema } = {}] = Object.entries(content ?? {})[0] ?? [];
      return [h("h3", {}, ["Response", status, kind].filter(Boolean).join(" ")), rows(fields(schema))];
    }),
    h("h3", {}, "Call"),
    h("pre", { tabindex: "0" }, h("code", {}, call(route, body))),
  );
}

const ofParameter = ({ name, schema, description, required, in: where }) => ({
  name, kind: kindOf(schema), note: [where, required && "required", description].filter(Boolean).join("; "),
});

function rows(found) {
  if (!found.length) return null;
  return h("dl", {}, found.map(({ name, kind, note, depth = 0 }) =>
    h("div", { class: `depth-${depth}` }, h("dt", {}, h("code", {}, name), " ", h("span", { class: "quiet" }, kind)), h("dd", {}, coded(note ?? "")))));
}

/** The fields of a schema, those of records inside it behind them. */
function fields(schema, depth = 0) {
  const record = recordOf(schema);
  if (!record || depth >= DEEPEST) return [];
  return Object.entries(record.properties ?? {}).flatMap(([name, field]) => {
    const preset = field.default !== undefined && `default ${JSON.stringify(field.default)}`;
    const needed = record.required?.includes(name) && "required";
    const note = [needed, preset, field.description].filter(Boolean).join("; ");
    return [{ name, kind: kindOf(field), note, depth }, ...fields(field, depth + 1)];
  });
}

/** The record that a schema is, a list of, or may be; null where it is none. */
function recordOf(schema) {
  if (!schema) return null;
  if (schema.$ref) return schemas[schema.$ref.split("/").pop()] ?? null;
  if (schema.properties) return schema;
  const inside = schema.items ? [schema.items] : (schema.anyOf ?? schema.allOf ?? []);
  return inside.map(recordOf).find((found) => found !== null) ?? null;
}

function kindOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" or ");
  if (schema.type === "array") return schema.items ? `list of ${kindOf(schema.items)}` : "list";
  return schema.type ?? "";
}

/** A command that calls the route. */
function call(route, body) {
  const parts = [`curl ${location.origin}${route.path}`];
  if (!["get", "post"].includes(route.method)) parts.push(`-X ${route.method.toUpperCase()}`);
  if (body?.[0] === "application/json") {
    const example = recordOf(body[1].schema)?.examples?.[0] ?? {};
    parts.push("--json", `'${JSON.stringify(example).replaceAll("'", "'\\''")}'`);
  } else if (body) {
    parts.push("-F files=@contract.pdf");
  }
  return parts.join(" ");
}

start();
