package validate

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// theirs are the names of what users bring.
var theirs = []string{
	"Secret/berth-database", "Secret/berth-s3", "Secret/registry-tls", "Secret/http-tls", "Secret/users", "PersistentVolumeClaim/theirs",
	"Secret/berth-gateway-tls", "Secret/berth-blobstore-tls", "Secret/berth-metadata-tls", "Secret/berth-scanner-tls", "Secret/berth-syncer-tls",
	"Secret/upstreams", "Secret/other-gateway-tls", "Secret/other-blobstore-tls", "Secret/other-metadata-tls",
}

// connected checks that every name, selector and port leads somewhere.
func connected(t *testing.T, objects []runtime.Object) {
	t.Helper()
	there := map[string]bool{}
	for _, o := range objects {
		m := o.(meta.Object)
		name := o.GetObjectKind().GroupVersionKind().Kind + "/" + m.GetName()
		if there[name] {
			t.Errorf("%s is there twice", name)
		}
		there[name] = true
		if c, ok := o.(*certmanager.Certificate); ok {
			there["Secret/"+c.Spec.SecretName] = true
		}
	}
	templates := pods(objects)
	needs := func(from string, kind, name string) {
		if !there[kind+"/"+name] && !slices.Contains(theirs, kind+"/"+name) {
			t.Errorf("%s: there is no %s %s", from, kind, name)
		}
	}
	for name, p := range templates {
		podConnected(t, name, p, needs)
	}
	// selects returns the pods that a selector matches, of which there must be some.
	selects := func(from string, s meta.LabelSelector) (found []core.PodTemplateSpec) {
		sel, err := meta.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Errorf("%s: %v", from, err)
			return nil
		}
		for _, p := range templates {
			if sel.Matches(labels.Set(p.Labels)) {
				found = append(found, p)
			}
		}
		if len(found) == 0 {
			t.Errorf("%s selects nothing: %v", from, s)
		}
		return found
	}
	port := func(from string, p intstr.IntOrString, of []core.PodTemplateSpec) {
		for _, pod := range of {
			if !slices.ContainsFunc(pod.Spec.Containers[0].Ports, func(c core.ContainerPort) bool {
				return c.Name == p.StrVal && p.StrVal != "" || c.ContainerPort == p.IntVal
			}) {
				t.Errorf("%s: port %s is not one of the container's", from, p.String())
			}
		}
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *apps.Deployment:
			selects("Deployment "+o.Name, *o.Spec.Selector)
		case *apps.StatefulSet:
			selects("StatefulSet "+o.Name, *o.Spec.Selector)
			needs("StatefulSet "+o.Name, "Service", o.Spec.ServiceName)
		case *core.Service:
			found := selects("Service "+o.Name, meta.LabelSelector{MatchLabels: o.Spec.Selector})
			for _, p := range o.Spec.Ports {
				port("Service "+o.Name, p.TargetPort, found)
			}
		case *policy.PodDisruptionBudget:
			selects("PodDisruptionBudget "+o.Name, *o.Spec.Selector)
		case *autoscaling.HorizontalPodAutoscaler:
			needs("HorizontalPodAutoscaler "+o.Name, o.Spec.ScaleTargetRef.Kind, o.Spec.ScaleTargetRef.Name)
		case *networking.NetworkPolicy:
			networkConnected(o, selects, port)
		case *networking.Ingress:
			for _, r := range o.Spec.Rules {
				needs("Ingress "+o.Name, "Service", r.HTTP.Paths[0].Backend.Service.Name)
			}
			for _, s := range o.Spec.TLS {
				needs("Ingress "+o.Name, "Secret", s.SecretName)
			}
		case *gateway.HTTPRoute:
			needs("HTTPRoute "+o.Name, "Service", string(o.Spec.Rules[0].BackendRefs[0].Name))
		case *monitoring.ServiceMonitor:
			if !slices.ContainsFunc(objects, func(s runtime.Object) bool {
				service, ok := s.(*core.Service)
				return ok && labels.SelectorFromSet(o.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels)) &&
					slices.ContainsFunc(service.Spec.Ports, func(p core.ServicePort) bool { return p.Name == o.Spec.Endpoints[0].Port })
			}) {
				t.Errorf("ServiceMonitor %s selects no Service with its port", o.Name)
			}
			if c := o.Spec.Endpoints[0].TLSConfig; c != nil {
				needs("ServiceMonitor "+o.Name, "Secret", c.CA.Secret.Name)
			}
		case *certmanager.Certificate:
			if o.Spec.IssuerRef.Name != "theirs" {
				needs("Certificate "+o.Name, "Issuer", o.Spec.IssuerRef.Name)
			}
		}
	}
}

func podConnected(t *testing.T, name string, p core.PodTemplateSpec, needs func(from, kind, name string)) {
	t.Helper()
	if s := p.Spec.ServiceAccountName; s != "default" && s != "" {
		needs(name, "ServiceAccount", s)
	}
	volumes := map[string]bool{}
	for _, v := range p.Spec.Volumes {
		volumes[v.Name] = true
		switch {
		case v.ConfigMap != nil:
			needs(name, "ConfigMap", v.ConfigMap.Name)
		case v.Secret != nil:
			needs(name, "Secret", v.Secret.SecretName)
		case v.PersistentVolumeClaim != nil:
			needs(name, "PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
		}
	}
	for _, c := range p.Spec.Containers {
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s mounts %s, which is no volume", name, m.Name)
			}
			delete(volumes, m.Name)
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				needs(name, "Secret", e.ValueFrom.SecretKeyRef.Name)
			}
		}
		for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			var at string
			switch {
			case probe == nil || probe.Exec != nil:
				continue
			case probe.HTTPGet != nil:
				at = probe.HTTPGet.Port.StrVal
			case probe.TCPSocket != nil:
				at = probe.TCPSocket.Port.StrVal
			}
			if at != "" && !slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == at }) {
				t.Errorf("%s: a probe of port %s, which is none", name, at)
			}
		}
	}
	for v := range volumes {
		t.Errorf("%s mounts its volume %s nowhere", name, v)
	}
}

func networkConnected(o *networking.NetworkPolicy, selects func(string, meta.LabelSelector) []core.PodTemplateSpec, port func(string, intstr.IntOrString, []core.PodTemplateSpec)) {
	from := "NetworkPolicy " + o.Name
	self := selects(from, o.Spec.PodSelector)
	for i, rule := range o.Spec.Ingress {
		for _, p := range rule.Ports {
			port(from, *p.Port, self)
		}
		for _, peer := range rule.From {
			if peer.PodSelector != nil {
				selects(fmt.Sprintf("%s, ingress %d", from, i), *peer.PodSelector)
			}
		}
	}
	for i, rule := range o.Spec.Egress {
		for _, peer := range rule.To {
			if peer.PodSelector == nil {
				continue
			}
			found := selects(fmt.Sprintf("%s, egress %d", from, i), *peer.PodSelector)
			for _, p := range rule.Ports {
				port(from, *p.Port, found)
			}
		}
	}
}

// TestNetworkOfSplit says who reaches whom in mode split.
func TestNetworkOfSplit(t *testing.T) {
	t.Run("no scanner", func(t *testing.T) {
		reached(t, renderings["medium"], map[string]string{"gateway": "everybody", "blobstore": "gateway metadata", "metadata": "gateway"})
	})
	t.Run("scanner", func(t *testing.T) {
		reached(t, append(slices.Clone(renderings["medium"]), "--set", "scanner.enabled=true"), map[string]string{
			"gateway": "everybody", "blobstore": "gateway metadata scanner", "metadata": "gateway scanner", "scanner": "gateway",
		})
	})
	t.Run("scanner and syncer", func(t *testing.T) {
		reached(t, append(slices.Clone(renderings["medium"]), "--set", "scanner.enabled=true,syncer.enabled=true,syncer.registries[0].urls[0]=https://registry-1.docker.io"), map[string]string{
			"gateway": "everybody", "blobstore": "gateway metadata scanner syncer", "metadata": "gateway scanner syncer", "scanner": "gateway", "syncer": "gateway",
		})
	})
}

// reached checks by whom each service may be reached.
func reached(t *testing.T, args []string, by map[string]string) {
	t.Helper()
	got := map[string][]string{}
	for _, o := range decode(t, render(t, args...)) {
		p, ok := o.(*networking.NetworkPolicy)
		if !ok {
			continue
		}
		service := p.Spec.PodSelector.MatchLabels["app.kubernetes.io/component"]
		got[service] = []string{}
		for _, rule := range p.Spec.Ingress {
			if rule.Ports[0].Port.StrVal == "metrics" {
				t.Errorf("%s tells its metrics, which nobody asked for", service)
			}
			if len(rule.From) == 0 {
				got[service] = append(got[service], "everybody")
			}
			for _, peer := range rule.From {
				got[service] = append(got[service], peer.PodSelector.MatchLabels["app.kubernetes.io/component"])
			}
		}
	}
	if len(got) != len(by) {
		t.Errorf("there are rules for %v, want them for %v", got, by)
	}
	for service, want := range by {
		if strings.Join(got[service], " ") != want {
			t.Errorf("%s is reached by %v, want %s", service, got[service], want)
		}
	}
}
