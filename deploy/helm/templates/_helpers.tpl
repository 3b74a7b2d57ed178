{{- /* Names, labels, and texts of values. */}}

{{- define "onceward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* 40 characters leave room for what is added: "-worker-receivers", and what operators make of it. */}}
{{- define "onceward.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "onceward.worker" -}}
{{- include "onceward.fullname" . }}-worker
{{- end }}

{{- define "onceward.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "onceward.worker" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* A release's workers. They never change: a Deployment's selector can't. */}}
{{- define "onceward.selector" -}}
app.kubernetes.io/name: {{ include "onceward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- end }}

{{- define "onceward.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "onceward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Labels of what is not the workers' own. */}}
{{- define "onceward.labels" -}}
{{- include "onceward.ownLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "onceward.workerLabels" -}}
{{- include "onceward.labels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{- /* How the worker reads a value: numbers from files come as floats, which print as 1.048576e+06. */}}
{{- define "onceward.text" -}}
{{- if kindIs "slice" . }}
{{- $parts := list }}
{{- range . }}{{ $parts = append $parts (include "onceward.text" .) }}{{ end }}
{{- join "," $parts }}
{{- else if and (kindIs "float64" .) (eq . (floor .)) }}
{{- int64 . }}
{{- else }}
{{- toString . }}
{{- end }}
{{- end }}

{{- /* A time such as "90s" in whole seconds, rounded up. */}}
{{- define "onceward.seconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "min" 60000 "h" 3600000 "day" 86400000 "days" 86400000 }}
{{- $milliseconds := mul (regexFind "^[0-9]+" .) (get $units (regexFind "[a-z]+$" .)) }}
{{- div (add $milliseconds 999) 1000 }}
{{- end }}

{{- define "onceward.drain" -}}
{{- include "onceward.seconds" (default "30s" (get .Values.settings "drain-time")) }}
{{- end }}

{{- define "onceward.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* Whether there is a Secret of the chart's own: something secret is written in the values. */}}
{{- define "onceward.hasSecret" -}}
{{- $keda := and (eq .Values.autoscaling.kind "keda") .Values.autoscaling.keda.rabbitmq.url }}
{{- if or .Values.broker.url .Values.database.url .Values.signing.secrets $keda }}yes{{ end }}
{{- end }}

{{- define "onceward.hasDestinations" -}}
{{- if or .Values.destinations.file .Values.destinations.existingConfigMap }}yes{{ end }}
{{- end }}
