{{- define "berth.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Labels of one component: (list $ "gateway"). */}}
{{- define "berth.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "berth.labels" -}}
{{- $root := index . 0 -}}
{{ include "berth.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "berth.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}/{{ index . 1 }}:{{ default (index . 0).Chart.AppVersion $image.tag }}
{{- end -}}

{{- define "berth.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "berth.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Component that speaks HTTP. */}}
{{- define "berth.front" -}}
{{- if eq .Values.mode "split" }}gateway{{ else }}allinone{{ end -}}
{{- end -}}

{{- /* The config file: what the chart knows, and .Values.config over it. */}}
{{- define "berth.config" -}}
{{- $storage := dict "rootDirectory" "/var/lib/berth" -}}
{{- $http := dict "address" "0.0.0.0" "port" "5000" -}}
{{- $made := dict "distSpecVersion" "1.1.1" "http" $http "log" (dict "level" "info") -}}
{{- if .Values.tls.secretName -}}
{{- $_ := set $http "tls" (dict "cert" "/etc/berth-http/tls.crt" "key" "/etc/berth-http/tls.key") -}}
{{- end -}}
{{- if eq .Values.mode "split" -}}
{{- $name := include "berth.fullname" . -}}
{{- $s3 := dict "name" "s3" "bucket" (required "s3.bucket: mode split keeps its bytes in a bucket" .Values.s3.bucket) -}}
{{- with .Values.s3.region }}{{ $_ := set $s3 "region" . }}{{ end -}}
{{- with .Values.s3.rootDirectory }}{{ $_ := set $s3 "rootdirectory" . }}{{ end -}}
{{- with .Values.s3.endpoint }}{{ $_ := set $s3 "regionendpoint" . }}{{ end -}}
{{- if not (kindIs "invalid" .Values.s3.forcePathStyle) }}{{ $_ := set $s3 "forcepathstyle" .Values.s3.forcePathStyle }}{{ end -}}
{{- $_ := required "database.existingSecret: mode split keeps its names in PostgreSQL; name the Secret with the data source name" .Values.database.existingSecret -}}
{{- $storage = dict
      "storageDriver" $s3
      "metadata" (dict "driver" "postgres" "dsnFile" "/etc/berth-database/dsn") -}}
{{- $_ := set $made "services" (dict
      "blobstore" (dict "listen" "0.0.0.0:7001" "metrics" "0.0.0.0:7101" "address" (printf "dns:///%s-blobstore.%s.svc:7001" $name .Release.Namespace))
      "metadata" (dict "listen" "0.0.0.0:7002" "metrics" "0.0.0.0:7102" "address" (printf "dns:///%s-metadata.%s.svc:7002" $name .Release.Namespace))
      "tls" (dict "cert" "/etc/berth-tls/tls.crt" "key" "/etc/berth-tls/tls.key" "cacert" "/etc/berth-tls/ca.crt")) -}}
{{- end -}}
{{- $_ := set $made "storage" $storage -}}
{{- $extensions := dict -}}
{{- if .Values.serviceMonitor.enabled -}}
{{- $_ := set $extensions "metrics" (dict "enable" true) -}}
{{- end -}}
{{- if eq .Values.mode "split" -}}
{{- $name := include "berth.fullname" . -}}
{{- range $service, $port := dict "scanner" 7004 "syncer" 7003 -}}
{{- if (index $.Values $service).enabled -}}
{{- $_ := set $made.services $service (dict "listen" (printf "0.0.0.0:%d" $port) "metrics" (printf "0.0.0.0:%d" (add $port 100)) "address" (printf "dns:///%s-%s.%s.svc:%d" $name $service $.Release.Namespace $port)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.syncer.enabled -}}
{{- $sync := dict "enable" true "registries" .Values.syncer.registries -}}
{{- if and .Values.syncer.credentialsSecret (eq .Values.mode "split") }}{{ $_ := set $sync "credentialsFile" "/etc/berth-sync/credentials.json" }}{{ end -}}
{{- if not .Values.syncer.registries }}{{ fail "syncer.registries: name what is mirrored" }}{{ end -}}
{{- $_ := set $extensions "sync" $sync -}}
{{- end -}}
{{- if .Values.scanner.enabled -}}
{{- $cve := dict -}}
{{- with .Values.scanner.dbRepository }}{{ $_ := set $cve "trivy" (dict "dbRepository" .) }}{{ end -}}
{{- $_ := set $extensions "search" (dict "cve" $cve) -}}
{{- end -}}
{{- if $extensions -}}
{{- $_ := set $made "extensions" $extensions -}}
{{- end -}}
{{- mergeOverwrite $made (deepCopy .Values.config) | toPrettyJson -}}
{{- end -}}

{{- /* The config file of scanner and syncer: the same, and where they may write. */}}
{{- define "berth.workerConfig" -}}
{{- mergeOverwrite (include "berth.config" . | fromJson) (dict "storage" (dict "rootDirectory" "/var/lib/berth")) | toPrettyJson -}}
{{- end -}}

{{- /* Services of mode split that speak gRPC. */}}
{{- define "berth.inner" -}}
blobstore metadata{{ if .Values.scanner.enabled }} scanner{{ end }}{{ if .Values.syncer.enabled }} syncer{{ end }}
{{- end -}}

{{- /* What all pods have: (list $ component). */}}
{{- define "berth.pod" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "berth.serviceAccount" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $values.topologySpread }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "berth.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "berth.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "berth.podAnnotations" -}}
{{- $root := index . 0 -}}
checksum/config: {{ include "berth.config" $root | sha256sum }}
{{- with (index $root.Values (index . 1)).podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Ports and probes of what speaks HTTP. */}}
{{- define "berth.httpPort" -}}
{{- $scheme := ternary "HTTPS" "HTTP" (ne .Values.tls.secretName "") -}}
ports:
  - {name: http, containerPort: 5000}
# A long recovery after a crash is no reason to begin it again: ten minutes.
startupProbe:
  httpGet: {path: /startupz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 2
  failureThreshold: 300
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}
