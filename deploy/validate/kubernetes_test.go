package validate

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
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
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	gateway "sigs.k8s.io/gateway-api/apis/v1"
)

// decoder decodes YAML into the types of the Kubernetes API, and of those
// extensions that the chart knows. A field that a type lacks, or that is there
// twice, is an error.
func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, apps.AddToScheme, networking.AddToScheme, policy.AddToScheme, autoscaling.AddToScheme,
		gateway.Install, certmanager.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
}

// decode decodes all objects in text.
func decode(t *testing.T, text string) []runtime.Object {
	t.Helper()
	d := decoder(t)
	var all []runtime.Object
	for r := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader([]byte(text)))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if j, err := yaml.ToJSON(doc); err != nil {
			t.Fatal(err)
		} else if string(j) == "null" { // nothing but comments
			continue
		}
		o, _, err := d.Decode(doc, nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, doc)
			continue
		}
		all = append(all, o)
	}
}

// pods returns the templates of the pods that objects make, by the names of these.
func pods(objects []runtime.Object) map[string]core.PodTemplateSpec {
	found := map[string]core.PodTemplateSpec{}
	for _, o := range objects {
		switch o := o.(type) {
		case *apps.Deployment:
			found[o.Name] = o.Spec.Template
		case *apps.StatefulSet:
			p := *o.Spec.Template.DeepCopy()
			for _, c := range o.Spec.VolumeClaimTemplates {
				p.Spec.Volumes = append(p.Spec.Volumes, core.Volume{Name: c.Name, VolumeSource: core.VolumeSource{
					PersistentVolumeClaim: &core.PersistentVolumeClaimVolumeSource{ClaimName: "theirs"},
				}})
			}
			found[o.Name] = p
		}
	}
	return found
}

// TestChart renders the chart and looks at every object.
func TestChart(t *testing.T) {
	for name, args := range renderings {
		t.Run(name, func(t *testing.T) {
			objects := decode(t, render(t, args...))
			if len(objects) < 4 {
				t.Fatalf("only %d objects", len(objects))
			}
			connected(t, objects)
			restricted(t, objects)
			drained(t, objects)
			if w := configured(t, objects); w != "" {
				t.Error(w)
			}
		})
	}
}

// TestObservability finds the alerts and the dashboard of deploy/observability in
// the chart.
func TestObservability(t *testing.T) {
	want := map[string]string{}
	for _, name := range []string{"dashboard.json", "alerts.yaml"} {
		text, err := os.ReadFile("../observability/" + name)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = string(text)
	}
	var dashboard string
	rules := 0
	for _, o := range decode(t, render(t, renderings["large"]...)) {
		switch o := o.(type) {
		case *core.ConfigMap:
			if strings.HasSuffix(o.Name, "-dashboard") {
				dashboard = o.Data["dashboard.json"]
			}
		case *monitoring.PrometheusRule:
			for _, g := range o.Spec.Groups {
				rules += len(g.Rules)
			}
		}
	}
	if !json.Valid([]byte(dashboard)) || strings.TrimSpace(dashboard) != strings.TrimSpace(want["dashboard.json"]) {
		t.Errorf("the dashboard is another one, of %d bytes", len(dashboard))
	}
	if n := strings.Count(want["alerts.yaml"], "- alert:"); rules != n || n == 0 {
		t.Errorf("%d alerts, want %d", rules, n)
	}
}

// TestManifests looks at the manifests that `make manifests` renders.
func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../k8s/manifests/*.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("got %d files, %v; want 3", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, string(text))
			connected(t, objects)
			restricted(t, objects)
			if w := configured(t, objects); w != "" {
				t.Error(w)
			}
		})
	}
}

// TestDecoderIsStrict breaks a good object.
func TestDecoderIsStrict(t *testing.T) {
	good := core.Service{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Service"}}
	text, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	d := decoder(t)
	if _, _, err := d.Decode(text, nil, nil); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		`{"apiVersion": "v1", "kind": "Service", "spec": {"port": []}}`,
		`{"apiVersion": "v1", "kind": "Service", "spec": {"type": "a", "type": "b"}}`,
		`{"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": "5000"}]}}`,
		`{"apiVersion": "v2", "kind": "Service"}`,
	} {
		if _, _, err := d.Decode([]byte(bad), nil, nil); err == nil {
			t.Errorf("accepted: %s", bad)
		}
	}
}
