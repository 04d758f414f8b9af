{{- /*
Names are the same whatever the release is called: a cluster has this chart once, since it has our kinds of objects and pods that ask for `gpumax` once.
*/ -}}

{{- define "gpumax.selector" -}}
app.kubernetes.io/name: gpumax
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gpumax.labels" -}}
{{ include "gpumax.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* Labels that a user adds to ours. where: the value that has them. By ours services, budgets and policies find pods, so none of them is another. */ -}}
{{- define "gpumax.moreLabels" -}}
{{- range $key, $_ := .labels }}
{{- if or (hasPrefix "app.kubernetes.io/" $key) (eq $key "helm.sh/chart") }}
{{- fail (printf "%s: found %s, which the chart sets itself, since by such labels its services and policies find its pods; wanted labels of your own, outside app.kubernetes.io" $.where $key) }}
{{- end }}
{{- end }}
{{- with .labels }}{{ toYaml . }}{{ end }}
{{- end -}}

{{- define "gpumax.image" -}}
{{- with .Values.image -}}
{{- if .registry }}{{ trimSuffix "/" .registry }}/{{ end -}}
{{ .repository }}
{{- if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Rules that let read who made pods: kinds that are known, and those that the values add. */ -}}
{{- define "gpumax.owners" }}
- {apiGroups: [""], resources: [replicationcontrollers], verbs: {{ .verbs }}}
- {apiGroups: [apps], resources: [replicasets, deployments, statefulsets, daemonsets], verbs: {{ .verbs }}}
- {apiGroups: [batch], resources: [jobs, cronjobs], verbs: {{ .verbs }}}
- {apiGroups: [jobset.x-k8s.io], resources: [jobsets], verbs: {{ .verbs }}}
- {apiGroups: [leaderworkerset.x-k8s.io], resources: [leaderworkersets], verbs: {{ .verbs }}}
- apiGroups: [kubeflow.org]
  resources: [pytorchjobs, tfjobs, xgboostjobs, paddlejobs, jaxjobs, mpijobs, notebooks]
  verbs: {{ .verbs }}
- {apiGroups: [trainer.kubeflow.org], resources: [trainjobs], verbs: {{ .verbs }}}
- {apiGroups: [ray.io], resources: [rayclusters, rayjobs, rayservices], verbs: {{ .verbs }}}
- {apiGroups: [serving.knative.dev], resources: [services, revisions, configurations, routes], verbs: {{ .verbs }}}
- {apiGroups: [argoproj.io], resources: [workflows, cronworkflows], verbs: {{ .verbs }}}
- {apiGroups: [tekton.dev], resources: [pipelineruns, taskruns], verbs: {{ .verbs }}}
- {apiGroups: [sparkoperator.k8s.io], resources: [sparkapplications, scheduledsparkapplications], verbs: {{ .verbs }}}
{{- range $.root.Values.rbac.owners }}
- {apiGroups: {{ toJson .apiGroups }}, resources: {{ toJson .resources }}, verbs: {{ $.verbs }}}
{{- end }}
{{- end -}}

{{- /* Of a pod: as the profile `restricted` of pod security wants it. */ -}}
{{- define "gpumax.podSecurity" -}}
runAsNonRoot: true
{{- with .root.Values.user }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "gpumax.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- /* Of the kubelet's folder, what an agent reads and writes. `plugins` has its record of what was given out. */ -}}
{{- define "gpumax.kubeletFolders" -}}
{{ if .Values.agent.plugin }}[plugins, device-plugins, pod-resources]{{ else }}[plugins, plugins_registry]{{ end }}
{{- end -}}

{{- /* Where our pods may go: to names, and to the API server. */ -}}
{{- define "gpumax.egress" -}}
- ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
  {{- range .Values.networkPolicy.apiServerPorts }}
  - {port: {{ . }}, protocol: TCP}
  {{- end }}
{{- end -}}

{{- /* Of a pod: who may run it, and where. component: what it is; its replicas keep apart from each other where nothing else is wished. */ -}}
{{- define "gpumax.pod" -}}
{{- $values := .root.Values -}}
{{- with $values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext: {{- include "gpumax.podSecurity" . | nindent 2 }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 0 }}
{{- end }}
affinity:
  {{- if $values.affinity }}
  {{- toYaml $values.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "gpumax.selector" .root | nindent 12 }}
            app.kubernetes.io/component: {{ .component }}
  {{- end }}
{{- end -}}

{{- /* The documents of one of the program's own files, for this namespace and with our labels. keep: whether they stay when the chart goes. */ -}}
{{- define "gpumax.file" -}}
{{- $text := .root.Files.Get .path | replace "gpumax-system" .root.Release.Namespace -}}
{{- range regexSplit "(?m)^---$" $text -1 }}
{{- with fromYaml . }}
{{- $_ := set .metadata "labels" (include "gpumax.labels" $.root | fromYaml) }}
{{- if $.keep }}{{ $_ := set .metadata "annotations" (dict "helm.sh/resource-policy" "keep") }}{{ end }}
---
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}
