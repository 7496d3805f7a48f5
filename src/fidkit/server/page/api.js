// Requests to this server, and the events that it sends.

/** What went wrong: `fault` as the server says it, {message, code, param, values, refused}; status 0 where it isn't reached. */
export class ApiError extends Error {
  constructor(status, fault = { message: "" }, retryAfter = null) {
    super(fault.message);
    this.status = status;
    this.fault = fault;
    this.retryAfter = fault.values?.retry_after ?? retryAfter;
  }
}

/** A JSON response. */
export async function get(path, options = {}) {
  const response = await request(path, options);
  return response.json();
}

/** A JSON response to a JSON request. */
export function post(path, record, signal) {
  return get(path, { ...json(record), signal });
}

/** The events of a streamed answer, as [name, record], one after the other. */
export async function* streamed(path, record, signal) {
  const response = await request(path, { ...json(record), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    // Lines end in \r\n, and a piece may end between the two.
    const events = rest.replaceAll("\r\n", "\n").split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const found = parsed(event);
      if (found !== null) yield found;
    }
  }
}

/** Files sent to be indexed; `tell` sees the share that is sent, 1 at the end. XMLHttpRequest, since fetch doesn't say it. */
export function upload(files, tell) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const file of files) form.append("files", file);
    const sending = new XMLHttpRequest();
    sending.open("POST", "/v1/documents");
    sending.upload.addEventListener("progress", (e) => e.lengthComputable && e.loaded < e.total && tell(e.loaded / e.total));
    sending.upload.addEventListener("load", () => tell(1));
    sending.addEventListener("load", () => {
      if (sending.status < 300) resolve(JSON.parse(sending.responseText));
      else reject(refusal(sending.status, sending.responseText, null));
    });
    sending.addEventListener("error", () => reject(new ApiError(0)));
    sending.send(form);
  });
}

/** Where the API has something that is called by its place in a document. */
export const placed = (what, source) => `/v1/${what}/${encodeURIComponent(source)}`;

function parsed(event) {
  let name = "message";
  const data = [];
  for (const line of event.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5));
  }
  return data.length ? [name, JSON.parse(data.join("\n"))] : null;
}

function json(record) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(record) };
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
  if (!response.ok) throw refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

function refusal(status, body, retryAfter) {
  if (status === 401) location.reload(); // the key was revoked: the server asks for another one
  try {
    return new ApiError(status, JSON.parse(body).error, retryAfter);
  } catch {
    return new ApiError(status, { message: `HTTP ${status}` }, retryAfter);
  }
}
