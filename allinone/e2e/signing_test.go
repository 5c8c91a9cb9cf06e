//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// helmCells drive helm, which knows charts only.
func helmCells() []cell {
	const why = "helm stores charts only, which are artifacts"
	return []cell{{
		client: "helm", content: "image", none: why,
	}, {
		client: "helm", content: "index", none: why,
	}, {
		client: "helm", content: "artifact",
		proof: "chart packaged, pushed, pulled: files equal; `helm template` renders it from the registry",
		run: func(t *testing.T, s *System) {
			run, helm := NewCommands(t), Client(t, "helm")
			registry := "oci://" + s.Addr + "/charts"
			run.Run(t, helm, "create", "mychart")
			run.Run(t, helm, "package", "mychart")
			_, said, err := run.Try(helm, "push", "mychart-0.1.0.tgz", registry, "--plain-http")
			if err != nil {
				t.Fatalf("helm push: %v\n%s", err, said)
			}
			readBack(t, s, "charts/mychart", "0.1.0", digestIn(t, said))
			packed := readFile(t, run, "mychart-0.1.0.tgz")
			run.Run(t, helm, "pull", registry+"/mychart", "--version", "0.1.0", "--plain-http", "--destination", ".")
			if readFile(t, run, "mychart-0.1.0.tgz") != packed {
				t.Error("the pulled chart differs from the pushed one")
			}
			if got := run.Run(t, helm, "template", "rel", registry+"/mychart", "--version", "0.1.0", "--plain-http"); !strings.Contains(got, "kind: Deployment") {
				t.Errorf("helm template renders no deployment:\n%s", got)
			}
		},
	}}
}

// cosignVerify begins every command line that verifies a signature.
var cosignVerify = []string{"verify", "--insecure-ignore-tlog", "--private-infrastructure"}

// A cosign is the client with two key pairs, mine and other, in its directory.
type cosign struct {
	path string
	*Commands
}

func newCosign(t *testing.T) *cosign {
	t.Helper()
	// The trust root is asked of loopback: nothing outside is reached, and the built-in one is used.
	c := &cosign{Client(t, "cosign"), NewCommands(t, "COSIGN_PASSWORD=pallet", "COSIGN_EXPERIMENTAL=1", "TUF_MIRROR=http://127.0.0.1:9")}
	for _, key := range []string{"mine", "other"} {
		c.Run(t, c.path, "generate-key-pair", "--output-key-prefix", key)
	}
	return c
}

func (c *cosign) try(args ...string) (stdout, stderr string, err error) {
	return c.Try(c.path, append(slices.Clone(args), "--allow-insecure-registry", "--allow-http-registry")...)
}

func (c *cosign) must(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := c.try(args...)
	if err != nil {
		t.Fatalf("cosign %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

// cosignCells sign with a key pair and without a transparency log. The
// signature lies beside the image under a tag (cosign's default) and once more
// as a referrer.
func cosignCells(t *testing.T, c contents) []cell {
	crane := Client(t, "crane")
	sign := func(content string, l layout) func(t *testing.T, s *System) {
		return func(t *testing.T, s *System) {
			run := newCosign(t)
			repo := "cosign/" + content
			run.Run(t, crane, "push", "--insecure", l.dir, s.Addr+"/"+repo+":1")
			ref := s.Addr + "/" + repo + "@" + string(l.root.Digest)

			run.must(t, "sign", "--key", "mine.key", "--tlog-upload=false", "--recursive", "-y", ref)
			if said := run.must(t, append(cosignVerify, "--key", "mine.pub", ref)...); !strings.Contains(said, string(l.root.Digest)) {
				t.Errorf("cosign verify does not name %s:\n%s", l.root.Digest, said)
			}
			if _, _, err := run.try(append(cosignVerify, "--key", "other.pub", ref)...); err == nil {
				t.Error("cosign verifies with a key that has signed nothing")
			}
			sigTag := strings.Replace(string(l.root.Digest), ":", "-", 1) + ".sig"
			sig := digest.Digest(run.Run(t, crane, "digest", "--insecure", s.Addr+"/"+repo+":"+sigTag))
			readBack(t, s, repo, sigTag, sig)

			run.must(t, "sign", "--key", "other.key", "--tlog-upload=false", "--registry-referrers-mode=oci-1-1", "-y", ref)
			run.must(t, append(cosignVerify, "--experimental-oci11", "--key", "other.pub", ref)...)

			writeFile(t, run.Commands, "sbom.json", `{"spdxVersion": "SPDX-2.3", "name": "hello"}`)
			run.must(t, "attach", "sbom", "--sbom", "sbom.json", ref)
			if got := run.must(t, "download", "sbom", ref); strings.TrimSpace(got) != readFile(t, run.Commands, "sbom.json") {
				t.Errorf("cosign downloads another SBOM than it attached:\n%s", got)
			}
			run.must(t, "attest", "--key", "mine.key", "--tlog-upload=false", "--predicate", "sbom.json", "--type", "spdxjson", "-y", ref)
			run.must(t, "verify-attestation", "--key", "mine.pub", "--insecure-ignore-tlog", "--private-infrastructure", "--type", "spdxjson", ref)
		}
	}
	const proof = "`sign`, `verify` (by tag and as a referrer; another key refused), `attach sbom`, `download sbom` equal, `attest`"
	return []cell{
		{client: "cosign", content: "image", proof: proof, run: sign("image", c.image)},
		{client: "cosign", content: "index", proof: proof, run: sign("index", c.index)},
		{client: "cosign", content: "artifact", proof: proof, run: sign("artifact", c.artifact)},
	}
}
