package validate

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const chart = "../k8s/berth"

// renderings are what the chart is rendered with: its own examples, and what
// these leave out. manifests says which are kept in ../k8s/manifests.
var renderings = map[string][]string{
	"small":    {"-f", chart + "/values-small.yaml"},
	"medium":   {"-f", chart + "/values-medium.yaml"},
	"large":    {"-f", chart + "/values-large.yaml"},
	"defaults": nil,
	"allinone-everything": {
		"--set", "tls.secretName=http-tls,allinone.persistence.existingClaim=theirs,serviceAccount.create=false,image.registry=example.com:5000,image.tag=t",
		"--set", "ingress.enabled=true,ingress.host=h.example.com,service.type=LoadBalancer,networkPolicy.enabled=false,imagePullSecrets[0].name=pull",
		"--set-json", `extraVolumes=[{"name":"users","secret":{"secretName":"users"}}]`,
		"--set-json", `extraVolumeMounts=[{"name":"users","mountPath":"/etc/users"}]`,
		"--set-json", `allinone={"env":[{"name":"HTTPS_PROXY","value":"http://proxy"}],"nodeSelector":{"a":"b"},"tolerations":[{"key":"k","operator":"Exists"}],"podAnnotations":{"x":"y"}}`,
	},
	"split-everything": {
		"--set", "mode=split,database.existingSecret=berth-database,database.key=url,s3.bucket=b,s3.endpoint=https://s3.example.com,s3.forcePathStyle=true,s3.rootDirectory=team/a,s3.region=,s3.existingSecret=berth-s3",
		"--set", "tls.secretName=http-tls,internalTLS.mode=existing,fullnameOverride=other,serviceMonitor.enabled=true,gateway.autoscaling.enabled=true",
		"--set", "metadata.replicas=1,networkPolicy.from[0].namespaceSelector.matchLabels.team=ci,config.log.level=debug",
	},
	"split-scanner": {
		"--set", "mode=split,database.existingSecret=berth-database,s3.bucket=b,internalTLS.mode=certManager,scanner.enabled=true,serviceMonitor.enabled=true",
	},
	"split-syncer": {
		"--set", "mode=split,database.existingSecret=berth-database,s3.bucket=b,internalTLS.mode=existing,scanner.enabled=true,syncer.enabled=true,syncer.credentialsSecret=upstreams,serviceMonitor.enabled=true",
		"--set-json", `syncer.registries=[{"urls":["https://registry-1.docker.io"],"onDemand":true,"content":[{"prefix":"library/**","destination":"/docker.io"}]}]`,
	},
	"allinone-syncer":  {"--set", "syncer.enabled=true,syncer.registries[0].urls[0]=https://registry-1.docker.io,syncer.registries[0].onDemand=true"},
	"allinone-scanner": {"--set", "scanner.enabled=true,scanner.dbRepository="},
	"split-issuer": {
		"--set", "mode=split,database.existingSecret=berth-database,s3.bucket=b,internalTLS.mode=certManager,internalTLS.certManager.issuerRef.name=theirs,internalTLS.certManager.issuerRef.kind=ClusterIssuer",
	},
}

// helm returns the path of the helm that allinone/e2e/install.sh built.
func helm(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("BERTH_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache", "berth")
	}
	found, err := filepath.Glob(filepath.Join(cache, "clients", "helm-*", "helm"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no helm below %s: run `make clients-install`", cache)
	}
	return found[len(found)-1]
}

// run runs a command and returns what it printed, and its errors if it failed.
func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	if err := cmd.Run(); err != nil {
		return out.String() + diag.String(), err
	}
	return out.String(), nil
}

// render returns what helm makes of the chart.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, err := run(t, helm(t), append([]string{"template", "berth", chart, "--namespace", "registry", "--kube-version", "1.31"}, args...)...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, out)
	}
	return out
}

func TestChartLint(t *testing.T) {
	for name, args := range renderings {
		if out, err := run(t, helm(t), append([]string{"lint", "--strict", "--kube-version", "1.31", chart}, args...)...); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestChartRefuses gives values that would make something that can't work.
func TestChartRefuses(t *testing.T) {
	for name, test := range map[string]struct{ set, want string }{
		"no database":      {"mode=split,s3.bucket=b", "database.existingSecret"},
		"no bucket":        {"mode=split,database.existingSecret=d", "s3.bucket"},
		"mode":             {"mode=many", "mode"},
		"unknown key":      {"gateway.replica=3", "replica"},
		"ingress, no host": {"ingress.enabled=true", "ingress.host"},
		"route, no parent": {"httpRoute.enabled=true", "httpRoute.parentRefs"},
		"replicas":         {"gateway.replicas=-1", "replicas"},
		"certificates":     {"internalTLS.mode=none", "internalTLS"},
		"nothing mirrored": {"syncer.enabled=true", "syncer.registries"},
	} {
		out, err := run(t, helm(t), "template", "berth", chart, "--kube-version", "1.31", "--set", test.set)
		if err == nil {
			t.Errorf("%s: rendered; want an error that names %q", name, test.want)
		} else if !strings.Contains(out, test.want) {
			t.Errorf("%s: got %v, want an error that names %q:\n%s", name, err, test.want, out)
		}
	}
}
