/* The API reference: Swagger UI shows the live OpenAPI document, and this is the page around it. It only shows:
   no request to the API can be tried from here. A browser that is signed in to the dashboard would sign it. */

const DOCUMENT = "/api/v1/openapi.json";
const DRAWN_MS = 10_000; // after this long, no operation that is not there yet is waited for
const METHODS = ["get", "post", "put", "patch", "delete", "head", "options", "trace"];
const WIDE = matchMedia("(width >= 64rem)");
const DARK = matchMedia("(prefers-color-scheme: dark)");

const $ = (id) => document.getElementById(id);
const places = new Map(); // where a link of the contents leads (its hash): how Swagger UI calls that tag or operation
const scriptsRan = new Promise((done) => document.addEventListener("DOMContentLoaded", done));
let viewer;

window.noZensmooth = true; // Swagger UI has a library that would take over every link within the page

async function load() {
  showState("Loading the reference");
  try {
    const response = await fetch(DOCUMENT, { credentials: "omit", cache: "no-cache" });
    if (!response.ok) throw new Error(`The answer was ${response.status}.`);
    const spec = readable(await response.json());
    await scriptsRan;
    if (!window.SwaggerUIBundle) throw new Error("Swagger UI did not come.");
    showAbout(spec);
    showContents(spec);
    viewer = window.SwaggerUIBundle({
      spec,
      domNode: $("operations"),
      plugins: [page],
      layout: "ReferenceLayout",
      docExpansion: "list",
      deepLinking: false, // it puts links into buttons; the contents' links do it
      defaultModelRendering: "model", // what each field means, before an example of it
      defaultModelExpandDepth: 3,
      showCommonExtensions: true, // a parameter's limits
      defaultModelsExpandDepth: 0,
      supportedSubmitMethods: [],
      validatorUrl: null,
      onComplete: () => {
        showState("");
        goTo(location.hash);
      },
    });
  } catch (error) {
    console.error(error);
    showState("The reference could not be loaded. Is the gateway running?", load);
  }
}

/* --- the document ---------------------------------------------------------------------------------- */

/** The document with words in place of names: tags with spaces, summaries (which are no Markdown) without its marks. */
function readable(spec) {
  for (const tag of spec.tags ?? []) tag.name = title(tag.name);
  for (const { path, method, operation } of operationsOf(spec)) {
    operation.summary = (operation.summary ?? `${method.toUpperCase()} ${path}`).replace(/`([^`]*)`/g, "“$1”");
    operation.operationId ??= `${method}${path.replace(/\W+/g, "-").replace(/-$/, "")}`;
    operation.tags = (operation.tags ?? ["default"]).map(title);
    for (const content of Object.values(operation.requestBody?.content ?? {})) showFirst(content);
    operation.responses = Object.fromEntries(Object.entries(operation.responses ?? {}).map(([status, response]) =>
      [status, response.$ref ? inALine(spec.components.responses[response.$ref.split("/").pop()]) : response]));
  }
  return spec;
}

/** The first of several examples, without Swagger UI's field to choose another: that has no label. */
function showFirst(content) {
  const [first] = Object.values(content.examples ?? {});
  if (first) content.example = first.value;
  delete content.examples;
}

/** An error as its codes and what they mean: all have one form, which need not be drawn a dozen times. */
function inALine({ description, content }) {
  const codes = Object.keys(content["application/json"].examples).map((code) => `\`${code}\``);
  return { description: `${codes.join(", ")}: ${description}` };
}

function operationsOf(spec) {
  return Object.entries(spec.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, operation: item[method] })));
}

function title(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** How to sign in: the ways, each of which may take several things. */
function waysToSignIn(spec) {
  const schemes = spec.components?.securitySchemes ?? {};
  return (spec.security ?? []).map((way) => Object.keys(way).map((name) => schemes[name]).filter(Boolean))
    .filter((way) => way.length);
}

function schemeWords({ type, scheme, in: place, name }) {
  if (type === "apiKey") return [`the ${place} `, el("code", {}, name)];
  if (type === "http") return [`HTTP ${title(scheme)}`];
  return [type];
}

/* --- the page around it ---------------------------------------------------------------------------- */

function showState(words, again) {
  const button = again && el("button", { type: "button" }, "Try again");
  button?.addEventListener("click", again);
  $("state").replaceChildren(...words ? [el("p", { class: again ? "notice" : "quiet" }, words)] : [], ...button ? [button] : []);
}

function showAbout(spec) {
  const { title: name, version, description } = spec.info;
  const ways = waysToSignIn(spec).map((way) => joined(way.map(schemeWords), " and "));
  $("about").replaceChildren(
    el("h2", { id: "about-title" }, name, " ", el("span", { class: "quiet" }, version)),
    ...paragraphs(description ?? "").map((words) => el("p", {}, ...marked(words, (code) => el("code", {}, code)))),
    ways.length && el("p", {}, "To sign in, send ", ...joined(ways, ", or "), "."));
  $("about").hidden = false;
}

function joined(parts, glue) {
  return parts.flatMap((part, index) => (index ? [glue, ...part] : part));
}

function showContents(spec) {
  const groups = new Map((spec.tags ?? []).map(({ name }) => [name, []]));
  for (const { path, method, operation } of operationsOf(spec)) {
    for (const tag of operation.tags) {
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(el("li", { "data-words": `${method} ${path} ${operation.summary} ${tag}`.toLowerCase() },
        linkTo(["operations", tag, operation.operationId],
          el("span", { class: "method", "data-method": method }, method.toUpperCase()), " ",
          el("span", {}, brief(operation.summary)))));
    }
  }
  $("list").replaceChildren(...[...groups].filter(([, items]) => items.length).map(([tag, items]) =>
    el("li", { class: "group" },
      linkTo(["operations-tag", tag], tag),
      el("ul", { role: "list" }, ...items))));
  $("contents").hidden = false;
  filter();
}

/** A link to a tag or an operation, by the id that Swagger UI gives to its element. */
function linkTo(key, ...words) {
  const link = el("a", { href: `#${idOf(key)}` }, ...words);
  places.set(link.hash, key);
  return link;
}

function idOf(key) {
  return CSS.escape(key.join("-").trim().replace(/\s/g, "_"));
}

/** A summary's first clause: enough to find it by. */
function brief(summary) {
  return summary.split(/[.;:](?:\s|$)/, 1)[0];
}

function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/);
  let found = 0;
  for (const group of $("list").children) {
    const items = [...group.querySelectorAll("li")];
    for (const item of items) item.hidden = !words.every((word) => item.dataset.words.includes(word));
    const shown = items.filter((item) => !item.hidden).length;
    group.hidden = !shown;
    found += shown;
  }
  $("nothing").textContent = found ? "" : "Nothing is called so.";
}

/** Open the operation that a link leads to, and go there: until now it may not have been there. */
function goTo(hash) {
  for (const link of $("list").querySelectorAll("a")) {
    link.setAttribute("aria-current", link.hash === hash ? "location" : "false");
    if (link.hash === hash) link.scrollIntoView({ block: "nearest" }); // in the contents, which may be long
  }
  const key = places.get(hash);
  if (!key) return;
  viewer.layoutActions.show(["operations-tag", key[1]], true);
  viewer.layoutActions.show(key, true);
  showOnceDrawn(idOf(key), performance.now() + DRAWN_MS);
}

function showOnceDrawn(id, until) {
  requestAnimationFrame((now) => {
    if ($(id)) $(id).scrollIntoView();
    else if (now < until) showOnceDrawn(id, until);
  });
}

/* --- Swagger UI ------------------------------------------------------------------------------------ */

/** Its plugin: our layout; no fields and buttons for requests, for none is sent; and no HTML made of text. */
function page({ React }) {
  const h = React.createElement;
  const None = () => null;

  const Layout = ({ getComponent }) =>
    h("div", { className: "swagger-ui" },
      ...["errors", "operations", "Webhooks", "Models"].map((name) => h(getComponent(name, true), { key: name })));

  /** Descriptions, of which we understand paragraphs and `code`: all else stays the text that it is. */
  const Markdown = ({ source, className = "" }) => {
    if (typeof source !== "string" || !source.trim()) return null;
    const text = source.replace(/^<i>(.+?)<\/i> : /, "$1: "); // Swagger UI's own, before a parameter's values
    return h("div", { className: `markdown ${className}` },
      ...paragraphs(text).map((words) => h("p", {}, ...marked(words, (code) => h("code", {}, code)))));
  };

  /** An operation's path; and that it takes no key, if so. (A webhook has no path: it is ours to send.) */
  const withKeys = (Path) => (props) =>
    h(React.Fragment, {},
      h(Path, props),
      props.operationProps.get("path").startsWith("/") && !props.operationProps.get("security")?.size && h("span", { className: "no-key" }, "No key needed"));

  /** A media type is a choice only where there are several. (The field is there all the same: it sets the first.) */
  const mediaType = (Choice) => (props) =>
    props.contentTypes?.size > 1
      ? h(Choice, props)
      : h(React.Fragment, {},
          h("code", { className: "media-type" }, props.contentTypes?.first()),
          h("div", { hidden: true }, h(Choice, props)));

  /** The values of an enumeration side by side, and not in as many lines. */
  const Enum = ({ schema }) =>
    Array.isArray(schema?.enum) &&
      h("div", { className: "json-schema-2020-12-keyword enum" },
        "One of ", ...schema.enum.flatMap((value) => [h("code", {}, JSON.stringify(value)), " "]));

  /** An example, in the page's own colours and not those of a dark theme. */
  const Example = ({ children }) =>
    h("pre", { className: "example" }, ...coloured(String(children), (className, text) => h("span", { className }, text)));

  /** A table of responses is a table: a region without a name it is not. */
  const responses = (Responses) => (props) =>
    h("div", { ref: (node) => node?.querySelector("table")?.removeAttribute("role") }, h(Responses, props));

  /** The heading above webhooks is one as a tag's: what follows it is a level below. */
  const webhooks = (Webhooks) => (props) =>
    h("div", { ref: (node) => node?.querySelector("h2")?.setAttribute("aria-level", "3") }, h(Webhooks, props));

  /** A button that unfolds a schema says whether it has. */
  const accordion = (Accordion) => (props) =>
    h("span", { ref: (node) => node?.firstElementChild?.setAttribute("aria-expanded", String(props.expanded)) },
      h(Accordion, props));

  return {
    components: { ReferenceLayout: Layout },
    wrapComponents: {
      Markdown: () => Markdown,
      OperationSummaryPath: withKeys,
      contentType: mediaType,
      responses,
      HighlightCode: () => Example,
      JsonSchemaForm: () => None,
      authorizeBtn: () => None,
      authorizeOperationBtn: () => None,
      Webhooks: webhooks,
      JSONSchema202012Accordion: accordion,
      JSONSchema202012KeywordEnum: () => Enum,
      JSONSchema202012ExpandDeepButton: () => None,
    },
  };
}

/* --- words and elements ---------------------------------------------------------------------------- */

function paragraphs(text) {
  return text.trim().split(/\n\s*\n/);
}

/** A text's parts: strings, and of each that stands between backticks what `code` makes of it. */
function marked(text, code) {
  return text.split(/`([^`]+)`/).map((part, index) => (index % 2 ? code(part) : part)).filter(Boolean);
}

/** JSON's parts: strings, and of each key, text and number what `span` makes of it. */
function coloured(json, span) {
  const parts = [];
  let end = 0;
  for (const match of json.matchAll(/("(?:\\.|[^"\\])*")(?=(:)?)|-?\d[\d.eE+-]*|true|false|null/g)) {
    parts.push(json.slice(end, match.index), span(match[2] ? "key" : match[1] ? "text" : "number", match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, json.slice(end)];
}

/** An element with attributes and children. Strings become text, false and undefined nothing. */
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter(Boolean));
  return element;
}

/* --- the beginning --------------------------------------------------------------------------------- */

function dress() {
  document.documentElement.classList.toggle("dark-mode", DARK.matches); // Swagger UI's own name for it
}

function unfold() {
  $("contents").firstElementChild.open = WIDE.matches;
}

DARK.addEventListener("change", dress);
WIDE.addEventListener("change", unfold);
addEventListener("hashchange", () => goTo(location.hash));
$("filter").addEventListener("input", filter);
$("list").addEventListener("click", ({ target }) => {
  const link = target.closest("a");
  if (!link) return;
  if (!WIDE.matches) unfold();
  if (link.hash === location.hash) goTo(link.hash);
});
dress();
unfold();
load();
