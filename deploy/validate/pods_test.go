package validate

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"
)

// restricted checks pods against the restricted Pod Security Standard, with the
// code of the API server's admission plugin, and that nothing of theirs is
// writable but what they say.
func restricted(t *testing.T, objects []runtime.Object) {
	t.Helper()
	evaluator, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, p := range pods(objects) {
		result := psa.AggregateCheckResults(evaluator.EvaluatePod(level, &p.ObjectMeta, &p.Spec))
		if !result.Allowed {
			t.Errorf("%s is not restricted: %s: %s", name, result.ForbiddenReason(), result.ForbiddenDetail())
		}
		c := p.Spec.Containers[0]
		if !*c.SecurityContext.ReadOnlyRootFilesystem || *p.Spec.AutomountServiceAccountToken {
			t.Errorf("%s: its root is writable, or it gets a token", name)
		}
		if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() || !c.Resources.Limits.Cpu().IsZero() {
			t.Errorf("%s: want a limit of memory, a request of CPU and no limit of that: %v", name, c.Resources)
		}
		if c.StartupProbe == nil || c.LivenessProbe == nil || c.ReadinessProbe == nil {
			t.Errorf("%s lacks a probe", name)
		}
	}
}

// drained checks that no pod is killed before it may have stopped by itself.
func drained(t *testing.T, objects []runtime.Object) {
	t.Helper()
	for name, p := range pods(objects) {
		args := p.Spec.Containers[0].Args
		var sum time.Duration
		for _, flag := range []string{"--drain-delay", "--drain"} {
			if i := slices.Index(args, flag); i >= 0 {
				d, err := time.ParseDuration(args[i+1])
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
				sum += d
			}
		}
		if grace := time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second; sum == 0 || grace <= sum {
			t.Errorf("%s is killed after %v and stops within %v", name, grace, sum)
		}
	}
}

// configured has the program of each pod verify the config file that it gets,
// and returns the warnings.
func configured(t *testing.T, objects []runtime.Object) (warnings string) {
	t.Helper()
	files := map[string]string{}
	for _, o := range objects {
		if c, ok := o.(*core.ConfigMap); ok {
			for name, text := range c.Data {
				files[c.Name+"/"+name] = text
			}
		}
	}
	for name, p := range pods(objects) {
		for _, v := range p.Spec.Volumes {
			if v.ConfigMap != nil {
				program, _, _ := strings.Cut(path.Base(p.Spec.Containers[0].Image), ":")
				args := p.Spec.Containers[0].Args
				warnings += verify(t, name, program, files[v.ConfigMap.Name+"/"+path.Base(args[len(args)-1])])
			}
		}
	}
	return warnings
}

// verify has program check a config file, and returns the warnings.
func verify(t *testing.T, name, program, text string) (warnings string) {
	t.Helper()
	if !json.Valid([]byte(text)) {
		t.Errorf("%s: the config file is not JSON: %q", name, text)
		return ""
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, bin(program), "verify", file)
	if err != nil {
		t.Errorf("%s: %s does not accept its config file: %v\n%s\n%s", name, program, err, out, text)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "warning:") {
			warnings += name + ": " + line
		}
	}
	return warnings
}

func bin(program string) string {
	if dir := os.Getenv("BERTH_BIN"); dir != "" {
		return filepath.Join(dir, program)
	}
	return filepath.Join("..", "..", "bin", program)
}

// TestGeneratedCertificates checks the certificates that Helm makes: each knows
// the others' authority, is for both ends of a connection, and says by its one
// name which service it is. Those of the scanner and the syncer are there before they are
// turned on, which would otherwise replace all.
func TestGeneratedCertificates(t *testing.T) {
	found := 0
	for _, o := range decode(t, render(t, renderings["medium"]...)) {
		s, ok := o.(*core.Secret)
		if !ok {
			continue
		}
		found++
		certified(t, s.Labels["app.kubernetes.io/component"], s.Data["tls.crt"], s.Data["ca.crt"])
	}
	if found != 5 {
		t.Errorf("%d secrets, want 5", found)
	}
}

// certified checks that a certificate is of the authority, for both ends of a
// connection, and has the name of the service and no other.
func certified(t *testing.T, service string, certificate, authority []byte) {
	t.Helper()
	roots := x509.NewCertPool()
	block, _ := pem.Decode(certificate)
	if !roots.AppendCertsFromPEM(authority) || block == nil {
		t.Fatalf("%s: no certificate, or no authority", service)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != service {
		t.Errorf("the certificate of %s is for %v", service, cert.DNSNames)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: service, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
			t.Errorf("%s: %v", service, err)
		}
	}
}
