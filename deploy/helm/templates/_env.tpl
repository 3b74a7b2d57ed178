{{- /* The variables of a worker. */}}

{{- define "onceward.env" -}}
# What other workers, `onceward status` and the logs call this one.
- name: ONCEWARD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
# By default it is loopback, which neither the kubelet nor Prometheus reaches.
- name: ONCEWARD_ADMIN_LISTEN
  value: 0.0.0.0:9464
{{- with include "onceward.brokerEnv" . }}
{{ . }}
{{- end }}
{{- with include "onceward.databaseEnv" . }}
{{ . }}
{{- end }}
{{- with .Values.signing }}
{{- if or .existingSecret .secrets }}
- name: ONCEWARD_SIGNING_SECRETS
  {{- include "onceward.fromSecret" (list $ .existingSecret .key "signing-secrets") | nindent 2 }}
{{- end }}
{{- end }}
{{- if include "onceward.hasDestinations" . }}
- name: ONCEWARD_DESTINATIONS
  value: /etc/onceward/destinations/destinations.toml
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: ONCEWARD_{{ $name | upper | replace "-" "_" }}
  value: {{ include "onceward.text" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "onceward.brokerEnv" -}}
{{- $name := printf "%s-rabbitmq" (include "onceward.fullname" .) -}}
{{- if .Values.rabbitmq.enabled -}}
- name: RABBITMQ_USER
  valueFrom:
    secretKeyRef:
      name: {{ $name }}-default-user
      key: username
- name: RABBITMQ_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $name }}-default-user
      key: password
# Made of its parts: the Secret's own connection_string ends with `/`, which names a virtual host without a name. %2f is
# the one called `/`.
- name: ONCEWARD_AMQP_URL
  value: amqp://$(RABBITMQ_USER):$(RABBITMQ_PASSWORD)@{{ $name }}:5672/%2f
{{- else if or .Values.broker.existingSecret .Values.broker.url -}}
- name: ONCEWARD_AMQP_URL
  {{- include "onceward.fromSecret" (list . .Values.broker.existingSecret .Values.broker.key "amqp-url") | nindent 2 }}
{{- end }}
{{- end }}

{{- define "onceward.databaseEnv" -}}
{{- if .Values.postgres.enabled -}}
- name: ONCEWARD_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "onceward.fullname" . }}-postgres-app
      key: uri
{{- else if or .Values.database.existingSecret .Values.database.url -}}
- name: ONCEWARD_DATABASE_URL
  {{- include "onceward.fromSecret" (list . .Values.database.existingSecret .Values.database.key "database-url") | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A key of a Secret of the user's, or else of the chart's own. */}}
{{- define "onceward.fromSecret" -}}
{{- $root := index . 0 -}}
valueFrom:
  secretKeyRef:
    name: {{ default (include "onceward.fullname" $root) (index . 1) }}
    key: {{ if index . 1 }}{{ index . 2 }}{{ else }}{{ index . 3 }}{{ end }}
{{- end }}
