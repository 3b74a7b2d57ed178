{{- /* What the schema can't say. Each line says what is wrong and what to write instead; no secret is shown. */}}

{{- define "onceward.validate" -}}
{{- include "onceward.validateServers" . }}
{{- include "onceward.validateSecrets" . }}
{{- include "onceward.validateLabels" . }}
{{- include "onceward.validateTimes" . }}
{{- include "onceward.validateScaling" . }}
{{- end }}

{{- /* Exactly one source for each server. */}}
{{- define "onceward.validateServers" -}}
{{- range $server := list (list "broker" "rabbitmq" "amqp-url-file") (list "database" "postgres" "database-url-file") }}
{{- $name := index $server 0 }}{{ $operator := index $server 1 }}{{ $file := index $server 2 }}
{{- $values := get $.Values $name }}
{{- $given := list }}
{{- if $values.existingSecret }}{{ $given = append $given (printf "%s.existingSecret" $name) }}{{ end }}
{{- if $values.url }}{{ $given = append $given (printf "%s.url" $name) }}{{ end }}
{{- if hasKey $.Values.settings $file }}{{ $given = append $given (printf "settings.%s" $file) }}{{ end }}
{{- if (get $.Values $operator).enabled }}{{ $given = append $given (printf "%s.enabled" $operator) }}{{ end }}
{{- if not $given }}
{{- fail (printf "the workers have no %s: set %s.existingSecret (a Secret with the key %s), %s.url or %s.enabled" $name $name $values.key $name $operator) }}
{{- else if gt (len $given) 1 }}
{{- fail (printf "the workers have more than one %s: of %s, keep one" $name (join " and " $given)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "onceward.validateSecrets" -}}
{{- if and .Values.broker.url (not (regexMatch "^amqps?://" .Values.broker.url)) }}
{{- fail "broker.url is no URL of a broker: write amqps://user:password@broker:5671/%2f" }}
{{- end }}
{{- if and .Values.database.url (not (regexMatch "^postgres(ql)?://" .Values.database.url)) }}
{{- fail "database.url is no URL of a database: write postgres://user:password@database:5432/onceward" }}
{{- end }}
{{- with .Values.signing }}
{{- if and .existingSecret .secrets }}
{{- fail "signing.existingSecret and signing.secrets are both set: keep one" }}
{{- end }}
{{- if and (or .existingSecret .secrets) (hasKey $.Values.settings "signing-secrets-file") }}
{{- fail "signing and settings.signing-secrets-file are both set: keep one" }}
{{- end }}
{{- end }}
{{- if and .Values.destinations.file .Values.destinations.existingConfigMap }}
{{- fail "destinations.file and destinations.existingConfigMap are both set: keep one" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if and (hasPrefix "ONCEWARD_" .name) (not (has .name (list "ONCEWARD_LOG" "ONCEWARD_LOG_FORMAT"))) }}
{{- $flag := trimPrefix "ONCEWARD_" .name | lower | replace "_" "-" }}
{{- fail (printf "extraEnv names %s, which the chart sets: see settings.%s, or the values of its own for URLs, secrets and destinations" .name $flag) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A label twice is no YAML, and the selector's are not to be changed. */}}
{{- define "onceward.validateLabels" -}}
{{- $own := include "onceward.ownLabels" . | fromYaml | keys }}
{{- $own = append $own "app.kubernetes.io/component" }}
{{- range $name, $labels := dict "commonLabels" .Values.commonLabels "podLabels" .Values.podLabels "serviceMonitor.labels" .Values.serviceMonitor.labels "prometheusRule.labels" .Values.prometheusRule.labels }}
{{- range $label, $_ := $labels }}
{{- if has $label $own }}
{{- fail (printf "%s sets %s, which the chart sets: leave it out" $name $label) }}
{{- end }}
{{- if and (ne $name "commonLabels") (hasKey (default dict $.Values.commonLabels) $label) }}
{{- fail (printf "%s sets %s, which commonLabels sets: keep one" $name $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- if hasKey (default dict .Values.podAnnotations) "checksum/secret" }}
{{- fail "podAnnotations sets checksum/secret, which the chart sets: leave it out" }}
{{- end }}
{{- end }}

{{- define "onceward.validateTimes" -}}
{{- with .Values.terminationGracePeriodSeconds }}
{{- $least := add (include "onceward.drain" $) 10 }}
{{- if lt (int64 .) $least }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but a worker needs settings.drain-time and 10 s more: write %d or more, or leave it out" (int64 .) $least) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "onceward.validateScaling" -}}
{{- with .Values.autoscaling }}
{{- if ne .kind "none" }}
{{- if gt (int .minReplicas) (int .maxReplicas) }}
{{- fail (printf "autoscaling.minReplicas is %v, and maxReplicas %v: write no more than that" .minReplicas .maxReplicas) }}
{{- end }}
{{- $partitions := int (default 32 $.Values.settings.partitions) }}
{{- if gt (int .maxReplicas) $partitions }}
{{- fail (printf "autoscaling.maxReplicas is %v, but there is work for %d workers (settings.partitions): write no more than that" .maxReplicas $partitions) }}
{{- end }}
{{- end }}
{{- if and (eq .kind "hpa") (not .hpa.metrics) (not (dig "requests" "cpu" "" $.Values.resources)) }}
{{- fail "autoscaling.kind is hpa, which goes by resources.requests.cpu: set that, or autoscaling.hpa.metrics" }}
{{- end }}
{{- with .keda.rabbitmq }}
{{- if and (eq $.Values.autoscaling.kind "keda") .enabled }}
{{- if and .existingSecret .url }}
{{- fail "autoscaling.keda.rabbitmq.existingSecret and autoscaling.keda.rabbitmq.url are both set: keep one" }}
{{- end }}
{{- if not (or .existingSecret .url $.Values.broker.existingSecret $.Values.rabbitmq.enabled) }}
{{- fail "autoscaling.keda.rabbitmq has no URL of the management API: set autoscaling.keda.rabbitmq.url or existingSecret, or enabled to false" }}
{{- end }}
{{- if and .url (not (regexMatch "^https?://" .url)) }}
{{- fail "autoscaling.keda.rabbitmq.url is no URL of a management API: write http://user:password@broker:15672/%2f" }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
