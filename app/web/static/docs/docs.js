"use strict";

// Swagger UI has a dark theme but leaves it to the page to choose.
const dark = matchMedia("(prefers-color-scheme: dark)");
const followColourScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColourScheme);
followColourScheme();

// Opening an operation must not take seconds. By default Swagger UI resolves the references of the whole document for it,
// and renders a schema, an example and the headers of a dozen problems that have nearly the same.

// What the operation, or another part of the document, refers to, and the part itself.
function excerpt(document, path) {
  const whole = ["openapi", "info", "servers", "security", "tags"].filter((name) => name in document);
  const reduced = Object.fromEntries(whole.map((name) => [name, document[name]]));
  const copy = (names) => {
    let [from, to] = [document, reduced];
    for (const name of names.slice(0, -1)) [from, to] = [from?.[name], (to[name] ??= {})];
    const last = names.at(-1);
    if (from?.[last] === undefined || last in to) return;
    to[last] = from[last];
    follow(from[last]);
  };
  const follow = (value) => {
    if (typeof value !== "object" || value === null) return;
    if (typeof value.$ref === "string" && value.$ref.startsWith("#/")) {
      copy(value.$ref.slice(2).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~")));
    }
    Object.values(value).forEach(follow);
  };
  if (path[0] === "paths") document = withoutProblems(document, path);
  copy(path);
  if (path[0] === "paths") shortenForm(reduced, path);
  return reduced;
}

function referred(document, value) {
  const names = value.$ref?.slice(2).split("/") ?? [];
  return names.reduce((from, name) => from[name], names.length ? document : value);
}

// The document whose operation has of its problems the descriptions alone.
function withoutProblems(document, [, path, method]) {
  const operation = document.paths[path]?.[method];
  if (!operation?.responses) return document;
  const responses = Object.entries(operation.responses).map(([code, response]) =>
    [code, Number(code) < 400 ? response : {description: referred(document, response).description}]);
  const shorter = {...operation, responses: Object.fromEntries(responses)};
  return {...document, paths: {...document.paths, [path]: {...document.paths[path], [method]: shorter}}};
}

// A form may repeat the parameters of the query. Swagger UI would show them twice, and fill the second ones in.
function shortenForm(document, [, path, method]) {
  const operation = structuredClone(document.paths[path][method]);
  const form = operation?.requestBody?.content?.["multipart/form-data"];
  if (!form) return;
  form.schema = structuredClone(referred(document, form.schema));
  for (const parameter of operation.parameters ?? []) delete form.schema.properties[referred(document, parameter).name];
  document.paths[path] = {...document.paths[path], [method]: operation};
}

const ResolveLess = {
  afterLoad(system) {
    const resolve = system.fn.resolveSubtree;
    this.fn.resolveSubtree = (document, path, options) => resolve(excerpt(document, path), path, options);
  },
};

// A problem is its codes and sentences, and its example when that is wanted.
const FoldProblems = {
  wrapComponents: {
    response: (Response, {React, specSelectors}) => (props) => {
      const [isOpen, setOpen] = React.useState(false);
      if (Number(props.code) < 400) return React.createElement(Response, props);
      const inCode = (part, position) => (position % 2 ? React.createElement("code", {key: position}, part) : part);
      const sentences = props.response.get("description", "").split("\n");
      const lines = sentences.map((line, position) =>
        React.createElement("p", {key: position}, ...line.replace(/^- /, "").split("`").map(inCode)));
      const more = isOpen
        ? React.createElement("pre", {className: "microlight"}, examplesOf(specSelectors.specJson().toJS(), props))
        : React.createElement("button",
          {className: "more", onClick: () => setOpen(true), "aria-label": `Example of ${props.code}`}, "Example");
      return React.createElement("tr", {className: "response problem", "data-code": props.code},
        React.createElement("td", {className: "response-col_status"}, props.code),
        React.createElement("td", {className: "response-col_description"}, ...lines, more));
    },
  },
};

function examplesOf(document, {path, method, code}) {
  const {content} = referred(document, document.paths[path][method].responses[code]);
  const {example, examples = {example: {value: example}}} = Object.values(content)[0];
  return Object.values(examples).map((one) => JSON.stringify(referred(document, one).value, null, 2)).join("\n\n");
}

// A link within the button that opens an operation would be two controls in one; the button sets the address as well.
const NoNestedLinks = {
  wrapComponents: {DeepLink: (_, {React}) => ({text}) => React.createElement("span", null, text)},
};

// Swagger UI calls the first server, and the page may call its own alone; the document may begin with the public one.
const OwnServerFirst = {
  statePlugins: {
    spec: {
      wrapActions: {updateJsonSpec: (update) => (document) => update(withOwnServerFirst(document))},
    },
  },
};

function withOwnServerFirst(document) {
  const url = new URL(".", location.href).href.replace(/\/$/, "");
  const others = (document?.servers ?? []).filter((server) => ![url, "/"].includes(server.url));
  const components = {...document?.components, securitySchemes: withOwnUrls(document?.components?.securitySchemes, url)};
  return {...document, components, servers: [{url, description: "The server of this page."}, ...others]};
}

// Swagger UI takes the paths of OAuth 2 from the root of the server, and the page may be below a prefix.
function withOwnUrls(schemes = {}, url) {
  const own = (flow) => Object.fromEntries(Object.entries(flow).map(([name, value]) =>
    [name, name.endsWith("Url") ? `${url}${value}` : value]));
  return Object.fromEntries(Object.entries(schemes).map(([name, {flows, ...scheme}]) => [name, flows
    ? {...scheme, flows: Object.fromEntries(Object.entries(flows).map(([kind, flow]) => [kind, own(flow)]))}
    : scheme]));
}

const TOKEN_PATH = "api/v1/oauth/token";

const ui = SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false, // It would keep tokens where every script can read them; the session is restored instead.
  plugins: [ResolveLess, FoldProblems, NoNestedLinks, OwnServerFirst],
  syntaxHighlight: {theme: "obsidian"},
  tryItOutEnabled: true,
  validatorUrl: null, // The default validator is another host.
  oauth2RedirectUrl: new URL("docs/oauth2-redirect.html", location.href).href,
  onComplete: showSession,
  requestInterceptor(request) {
    // With credentials, the browser itself would ask for those of a client that is refused.
    if (request.url.endsWith(`/${TOKEN_PATH}`)) request.credentials = "omit";
    return request;
  },
  responseInterceptor(answer) {
    // The session may have ended elsewhere: if it has, the form is shown again.
    if (answer.status === 401 && session.token) session.restore().catch(() => {});
    return answer;
  },
});

// Without PKCE no app gets a code.
ui.initOAuth({usePkceWithAuthorizationCodeGrant: true});

function showSession() {
  const [form, shown, fault] = ["log-in", "logged-in", "log-in-fault"].map((id) => document.getElementById(id));

  const attempt = async (action) => {
    fault.textContent = "";
    form.inert = shown.inert = true;
    try {
      await action();
      form.reset();
    } catch (failure) {
      fault.textContent = failure.message;
    } finally {
      form.inert = shown.inert = false;
    }
  };
  const logIn = (email, password) => attempt(() => session.logIn(email, password));

  let isAuthorized = false;
  session.changed = (email) => {
    form.hidden = Boolean(email);
    shown.hidden = !email;
    shown.querySelector("b").textContent = email ?? "";
    if (email) ui.preauthorizeApiKey("bearer", session.token);
    else if (isAuthorized) ui.authActions.logout(["bearer"]);
    isAuthorized = Boolean(email);
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    logIn(form.elements.email.value, form.elements.password.value);
  });
  for (const button of form.querySelectorAll("[data-email]")) {
    button.addEventListener("click", () => logIn(button.dataset.email, button.dataset.password));
  }
  shown.querySelector("button").addEventListener("click", () => attempt(() => session.logOut()));

  if (session.refused) fault.textContent = `The login with the provider failed: ${session.refused}.`;
  form.hidden = Boolean(session.arrived ?? session.stored());
  session.restore().catch(() => {}).finally(() => { form.hidden = Boolean(session.token); });
}
