"""Compares what the chart renders with what kustomize builds: compare.py BUILT RENDERED

Every document of the one has to be in the other, with the same content, but for what `compare.py --meant` tells.
"""

import json, sys

import yaml

MEANT = """\
- Namespace: the chart makes none; Helm has --create-namespace.
- Labels: the chart adds app.kubernetes.io/instance, managed-by and version, and helm.sh/chart; instance is in selectors, too.
  The chart labels everything; kustomize's NetworkPolicies and KEDA's resources have no labels.
- ServiceMonitor: the job is the release, since there may be several; with kustomize it is always onceward.
- KEDA's query counts the chart's release, if the chart's ServiceMonitor names it.
- Signing secrets: a key that the values name must be there; with kustomize it may be missing.
- With operators, kustomize still takes signing secrets from the Secret onceward, if there is one.
- RabbitMQ and PostgreSQL stay when the release goes (helm.sh/resource-policy).
- NetworkPolicies: how rules are cut; what they allow is the same.
"""
CHARTS_LABELS = {"helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "app.kubernetes.io/version"}
UNLABELLED = {"NetworkPolicy", "ScaledObject", "TriggerAuthentication", "RabbitmqCluster", "Cluster", "PodDisruptionBudget"}


def documents(path):
    with open(path) as file:
        found = [document for document in yaml.safe_load_all(file) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


def without_labels(value, labels):
    if isinstance(value, dict):
        return {key: without_labels(inner, labels) for key, inner in value.items() if key not in labels}
    if isinstance(value, list):
        return [without_labels(inner, labels) for inner in value]
    return value


def allowed(rules, peers):
    """What rules of a NetworkPolicy allow: pairs of a peer and a port."""
    anybody = [None]
    pairs = set()
    for rule in rules or []:
        for peer in rule.get(peers) or anybody:
            for port in rule.get("ports") or anybody:
                pairs.add(json.dumps([peer, port], sort_keys=True))
    return sorted(pairs)


def by_name(variables):
    """Variables, in any order: only what they refer to has to come first, which Kubernetes sees to with an error."""
    return {variable["name"]: variable for variable in variables}


def common(document):
    spec = document.get("spec", {})
    if document["kind"] == "NetworkPolicy":
        spec["ingress"] = allowed(spec.get("ingress"), "from")
        spec["egress"] = allowed(spec.get("egress"), "to")
    if document["kind"] == "Deployment":
        for container in spec["template"]["spec"]["containers"]:
            container["env"] = by_name(container["env"])
    return document


def of_kustomize(document):
    document = common(document)
    if document["kind"] == "ServiceMonitor":
        document["spec"]["jobLabel"] = "app.kubernetes.io/instance"
    if document["kind"] == "Deployment":
        for container in document["spec"]["template"]["spec"]["containers"]:
            del container["env"]["ONCEWARD_SIGNING_SECRETS"]["valueFrom"]["secretKeyRef"]["optional"]
    return document


def of_chart(document, built):
    document = common(without_labels(document, CHARTS_LABELS))
    metadata = document["metadata"]
    if document["kind"] in UNLABELLED and built and "labels" not in built["metadata"]:
        del metadata["labels"]
    if metadata.get("annotations") == {"helm.sh/resource-policy": "keep"}:
        del metadata["annotations"]
    if document["kind"] == "ScaledObject":
        query = document["spec"]["triggers"][0]["metadata"]
        query["query"] = query["query"].replace(' job="onceward",', "")
    return document


def differences(built, rendered, path):
    if isinstance(built, dict) and isinstance(rendered, dict):
        for key in sorted(built.keys() | rendered.keys()):
            yield from differences(built.get(key), rendered.get(key), f"{path}/{key}")
    elif isinstance(built, list) and isinstance(rendered, list) and len(built) == len(rendered):
        for index, pair in enumerate(zip(built, rendered)):
            yield from differences(*pair, f"{path}/{index}")
    elif built != rendered:
        yield f"{path}: kustomize has {json.dumps(built)}, the chart {json.dumps(rendered)}"


def main():
    if sys.argv[1:] == ["--meant"]:
        print("These differences are meant:\n" + MEANT, end="")
        return
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    built, rendered = map(documents, sys.argv[1:])
    built = {name: document for name, document in built.items() if name[0] != "Namespace"}
    wrong = []
    for name in sorted(built.keys() | rendered.keys()):
        title = " ".join(name)
        if name not in rendered:
            wrong.append(f"{title}: the chart has none")
        elif name not in built:
            wrong.append(f"{title}: kustomize has none")
        else:
            chart = of_chart(rendered[name], built[name])
            wrong += differences(of_kustomize(built[name]), chart, title)
    for line in wrong:
        print(line)
    if not wrong:
        print(f"{len(built)} documents are the same.")
    sys.exit(bool(wrong))


main()
