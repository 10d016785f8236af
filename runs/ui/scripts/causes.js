// Why a deployment is stale: the chain of causes from the first one to the run that started it.

import { h } from "./dom.js";
import { ago, shortId } from "./format.js";

/** Return the causes of an explanation; `link(key)` makes the way to another deployment, or nothing. */
export function causes(found, link) {
  const links = found.chain;
  const left = found.num_links - links.length;
  const items = links.map((reason) => cause(reason, link));
  if (left) items.splice(Math.ceil(links.length / 2), 0, h("li.soft", {}, `${left.toLocaleString("en")} more are stale in turn`));
  const others = found.reasons.filter((reason) => !links.some((one) => isSame(one, reason)));
  return [
    items.length ? [h("h3", {}, "Why it is stale"), h("ol.graph-chain", {}, items)] : null,
    others.length ? [h("h3", {}, "Other causes"), h("ul.graph-chain", {}, others.map((reason) => cause(reason, link)))] : null,
    found.auto_refresh ? h("p.soft", {}, found.auto_refresh) : null,
  ];
}

function cause(reason, link) {
  const run = reason.origin_run_id;
  const linked = reason.upstream && link(reason.upstream);
  const [before, after] = linked ? split(reason.sentence, reason.upstream) : [reason.sentence, ""];
  return h(
    "li",
    {},
    h("p", {}, before, linked, after),
    h(
      "p.graph-links",
      {},
      run ? h("a.mono", { href: `/runs/${run}` }, shortId(run)) : null,
      reason.since ? h("span.soft", {}, "since ", ago(reason.since)) : null,
    ),
  );
}

/** Split a sentence where a name stands in it; a sentence without the name gets it at its end. */
function split(sentence, name) {
  const at = sentence.indexOf(name);
  return at < 0 ? [`${sentence}: `, ""] : [sentence.slice(0, at), sentence.slice(at + name.length)];
}

function isSame(one, other) {
  return one.kind === other.kind && one.role === other.role && one.upstream === other.upstream;
}
