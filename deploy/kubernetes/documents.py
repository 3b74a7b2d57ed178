"""Checks each document in a directory against its schema: documents.py KUBERNETES-VERSION DIRECTORY CRDS...

Ends with 1 if one is wrong, and with 3 if that is not known of all kinds. Needs kubernetes-validate, which brings the
other modules. For `validate` here, and `check` of the chart.
"""

import pathlib, sys

import jsonschema, kubernetes_validate, yaml

NOT_CHECKED = 3

version, built, *given = sys.argv[1:]
# YAML 1.1 has a type of its own for a lone `=`, which PyYAML knows and can't read; Prometheus' definitions have some.
yaml.SafeLoader.add_constructor("tag:yaml.org,2002:value", lambda _, node: node.value)


def documents(path):
    path = pathlib.Path(path)
    files = sorted(path.rglob("*.y*ml")) if path.is_dir() else [path]
    for file in files:
        for document in yaml.safe_load_all(file.read_text()):
            if document and document.get("kind", "").endswith("List") and "items" in document:
                yield from ((file, item) for item in document["items"])
            elif document:
                yield file, document


def strict(schema):
    """The schema as the API server reads it: unknown fields are errors, as with `kubectl apply --validate=strict`."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    schema = dict(schema)
    if "(?i)" in schema.get("pattern", ""):
        # Go takes a flag anywhere, Python at the beginning alone.
        schema["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    if "properties" in schema:
        schema["properties"] = {name: strict(of) for name, of in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            schema[part] = strict(schema[part])
    if schema.get("nullable"):
        schema = {"anyOf": [{"type": "null"}, schema]}
    return schema


custom = {}
for path in given:
    for _, crd in documents(path):
        if crd.get("kind") == "CustomResourceDefinition":
            spec = crd["spec"]
            for served in spec["versions"]:
                schema = strict(served["schema"]["openAPIV3Schema"])
                # What the API server knows of every object.
                schema["properties"].update(apiVersion={}, kind={}, metadata={"type": "object"})
                custom[f"{spec['group']}/{served['name']}", spec["names"]["kind"]] = schema

wrong, unknown, right = [], set(), 0
for file, document in documents(built):
    kind = document["apiVersion"], document["kind"]
    name = f"{file.stem}: {document['kind']} {document['metadata']['name']}"
    try:
        if kind in custom:
            jsonschema.validate(document, custom[kind])
        else:
            kubernetes_validate.validate(document, version, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        where = "/".join(map(str, getattr(error, "path", ())))
        wrong.append(f"{name}: {where}: {error.message}")
        continue
    except kubernetes_validate.SchemaNotFoundError:
        unknown.add("%s %s" % kind)
        continue
    right += 1
print(f"{right} documents are valid.")
for line in wrong:
    print(line)
for kind in sorted(unknown):
    print(f"NOT CHECKED, no CustomResourceDefinition was given: {kind}")
sys.exit(1 if wrong else NOT_CHECKED if unknown else 0)
