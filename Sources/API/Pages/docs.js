"use strict";

const element = (name, text, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
};

const nameOf = (schema) => (schema.$ref ? schema.$ref.split("/").pop() : undefined);

const typeOf = (schema) => {
  if (schema.$ref) return nameOf(schema);
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.type === "object") return `map of ${typeOf(schema.additionalProperties || {})}`;
  return [schema.type || "any", schema.format].filter(Boolean).join(", ");
};

const limitOf = (schema) => {
  const bounds = [["minimum", "maximum"], ["minLength", "maxLength"], ["minItems", "maxItems"]];
  const found = bounds.find(([least]) => schema[least] !== undefined);
  return found ? `${schema[found[0]]} to ${schema[found[1]]}` : "";
};

const table = (rows) => {
  const made = element("table");
  const head = made.createTHead().insertRow();
  for (const title of ["name", "type", "limit", ""]) head.append(element("th", title));
  const body = made.createTBody();
  for (const [name, schema, required] of rows) {
    const row = body.insertRow();
    for (const text of [name, typeOf(schema), limitOf(schema), required ? "required" : ""]) row.insertCell().textContent = text;
  }
  return made;
};

const showSchema = (parent, title, schema, schemas, seen) => {
  const name = nameOf(schema);
  if (!name) {
    if (schema.items) showSchema(parent, title, schema.items, schemas, seen);
    return;
  }
  if (seen.has(name)) return;
  seen.add(name);
  const object = schemas[name];
  parent.append(element("h3", `${title}: ${name}`));
  const fields = Object.entries(object.properties || {});
  const required = new Set(object.required || []);
  parent.append(table(fields.map(([field, inner]) => [field, inner, required.has(field)])));
  for (const [, inner] of fields) showSchema(parent, "where", inner, schemas, seen);
};

const showCall = (path, method, call, schemas) => {
  const made = element("details");
  const summary = element("summary");
  summary.append(element("span", method.toUpperCase(), "method"), element("code", path), element("span", call.summary, "about"));
  made.append(summary);
  if (call.description) made.append(element("p", call.description));
  if (call.parameters.length > 0) {
    made.append(element("h3", "Parameters"));
    made.append(table(call.parameters.map((one) => [`${one.name} (${one.in})`, one.schema, one.required])));
  }
  const seen = new Set();
  if (call.requestBody) showSchema(made, "Body", call.requestBody.content["application/json"].schema, schemas, seen);
  for (const [status, answer] of Object.entries(call.responses)) {
    for (const [type, content] of Object.entries(answer.content)) {
      if (status === "default") continue;
      made.append(element("h3", `${status} ${answer.description}, ${type}`));
      showSchema(made, "Answer", content.schema, schemas, seen);
    }
  }
  return made;
};

const show = async () => {
  const calls = document.getElementById("calls");
  try {
    const description = await (await fetch("/openapi.json")).json();
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, call] of Object.entries(methods)) {
        calls.append(showCall(path, method, call, description.components.schemas));
      }
    }
  } catch (error) {
    calls.append(element("p", `The description could not be read: ${error.message}`));
  }
};

show();
