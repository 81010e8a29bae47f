{{- define "provisioner.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that the longest suffix, "-publisher" or "-migration", fits in a label. */}}
{{- define "provisioner.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "provisioner.selectorLabels" -}}
app.kubernetes.io/name: {{ include "provisioner.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "provisioner.labels" -}}
{{ include "provisioner.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "provisioner.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "provisioner.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "provisioner.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
The Deployments to make: a YAML object of component -> {roles, replicas, resources}.
With one Deployment for all, its component is "all".
*/}}
{{- define "provisioner.components" -}}
{{- if eq .Values.topology "single" -}}
{{- dict "all" (merge (dict "roles" "scim,intake,lanes,publisher,console") .Values.single) | toYaml -}}
{{- else -}}
{{- $components := dict -}}
{{- range $role, $settings := .Values.roles -}}
{{- if gt (int $settings.replicas) 0 -}}
{{- $_ := set $components $role (merge (dict "roles" $role) $settings) -}}
{{- end -}}
{{- end -}}
{{- toYaml $components -}}
{{- end -}}
{{- end -}}

{{/* Which component plays the role given as (list $ "scim"). */}}
{{- define "provisioner.componentOf" -}}
{{- $root := index . 0 -}}
{{- ternary "all" (index . 1) (eq $root.Values.topology "single") -}}
{{- end -}}

{{- define "provisioner.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "provisioner.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "provisioner.scheduling" -}}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Settings of the running roles; secrets are named by file only. Behind an ingress a request tells
its client and scheme only where the proxy is trusted, so what customers see is said here. */}}
{{- define "provisioner.environment" -}}
{{- $named := list -}}
{{- range .Values.extraEnv }}{{ $named = append $named .name }}{{ end -}}
- {name: PROVISIONER_DATABASE_URL_FILE, value: /run/secrets/provisioner/database-url}
- {name: PROVISIONER_TOKEN_PEPPER_FILE, value: /run/secrets/provisioner/token-pepper}
- {name: PROVISIONER_INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: PROVISIONER_AUTH0_DOMAIN, value: {{ .Values.auth0.domain | quote }}}
- {name: PROVISIONER_AUTH0_CLIENT_ID, value: {{ .Values.auth0.clientId | quote }}}
- {name: PROVISIONER_AUTH0_CLIENT_SECRET_FILE, value: /run/secrets/provisioner/auth0-client-secret}
{{- with .Values.kafka.bootstrapServers }}
- {name: PROVISIONER_KAFKA_BOOTSTRAP_SERVERS, value: {{ . | quote }}}
{{- end }}
{{- if and .Values.ingress.enabled (not (has "PROVISIONER_PUBLIC_URL" $named)) }}
- {name: PROVISIONER_PUBLIC_URL, value: {{ printf "https://%s" .Values.ingress.host | quote }}}
{{- end }}
{{- with .Values.ingress.trustedProxies }}
- {name: FORWARDED_ALLOW_IPS, value: {{ join "," . | quote }}}
{{- end }}
{{- range .Values.extraEnv }}
- {name: {{ .name }}, value: {{ .value | quote }}}
{{- end }}
{{- range .Values.extraSecrets }}
- {name: {{ .variable }}_FILE, value: /run/secrets/provisioner/{{ .variable }}}
{{- end }}
{{- end -}}

{{/* One source of a projected volume: (dict "secret" "name" "key" "key" "path" "file"). */}}
{{- define "provisioner.secretSource" -}}
- secret:
    name: {{ .secret }}
    items:
      - {key: {{ .key | quote }}, path: {{ .path }}}
{{- end -}}
