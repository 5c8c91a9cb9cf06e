//go:build e2e

package e2e

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// deleteCells remove what is stored with every client that has a command for
// it. What a client says it removed is not found at the next request.
func deleteCells(t *testing.T, c contents) []cell {
	crane, regctl, oras := Client(t, "crane"), Client(t, "regctl"), Client(t, "oras")
	l := c.artifact

	// stored pushes the artifact under two tags.
	stored := func(t *testing.T, s *System, repo string) (run *Commands, ref string) {
		s.pushLayout(t, repo, l)
		run, ref = NewCommands(t), s.Addr+"/"+repo
		run.Run(t, crane, "tag", "--insecure", ref+":1", "2")
		run.Run(t, regctl, "registry", "set", "--tls", "disabled", s.Addr)
		return run, ref
	}
	// tagGone: the tag alone was removed.
	tagGone := func(t *testing.T, s *System, repo string) {
		t.Helper()
		s.gone(t, "/v2/"+repo+"/manifests/1")
		readBack(t, s, repo, "2", l.root.Digest)
		if got := s.tags(t, repo); !slices.Equal(got, []string{"2"}) {
			t.Errorf("tags after the removal of 1: %q, want only 2", got)
		}
	}
	// manifestGone: the manifest was removed, and so all its tags; then it can
	// be pushed again.
	manifestGone := func(t *testing.T, s *System, repo string) {
		t.Helper()
		s.gone(t, "/v2/"+repo+"/manifests/1", "/v2/"+repo+"/manifests/2", "/v2/"+repo+"/manifests/"+string(l.root.Digest))
		if got := s.tags(t, repo); len(got) != 0 {
			t.Errorf("tags of the removed manifest: %q", got)
		}
	}
	again := func(t *testing.T, s *System, repo string) {
		t.Helper()
		s.pushLayout(t, repo, l)
		readBack(t, s, repo, "1", l.root.Digest)
	}
	// blob removes a blob that is in use, which is refused, and once more when
	// remove has removed the manifest, which is not.
	blob := func(t *testing.T, s *System, repo string, run *Commands, remove func(), client string, args ...string) {
		t.Helper()
		_, blobs := l.walk(t)
		d := string(blobs[0].Digest)
		args = append(args, s.Addr+"/"+repo+"@"+d)
		if client == regctl {
			args = []string{"blob", "delete", s.Addr + "/" + repo, d}
		}
		if _, _, err := run.Try(client, args...); err == nil {
			t.Errorf("%s removes a blob that a manifest names", client)
		}
		s.expect(t, http.StatusOK, http.MethodHead, "/v2/"+repo+"/blobs/"+d)
		remove()
		run.Run(t, client, args...)
		s.gone(t, "/v2/"+repo+"/blobs/"+d)
	}

	cells := []cell{{
		client: "skopeo",
		proof:  "`delete`: manifest and both its tags answer 404 at once; pushed again",
		run: func(t *testing.T, s *System) {
			const repo = "skopeo/delete"
			run, ref := stored(t, s, repo)
			run.Run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+ref+":1")
			manifestGone(t, s, repo)
			again(t, s, repo)
		},
	}, {
		client: "crane",
		proof:  "`delete` a tag: it answers 404, the other stays; `delete` the digest: all answer 404 at once; pushed again",
		run: func(t *testing.T, s *System) {
			const repo = "crane/delete"
			run, ref := stored(t, s, repo)
			run.Run(t, crane, "delete", "--insecure", ref+":1")
			tagGone(t, s, repo)
			run.Run(t, crane, "delete", "--insecure", ref+"@"+string(l.root.Digest))
			manifestGone(t, s, repo)
			again(t, s, repo)
		},
	}, {
		client: "regctl",
		proof:  "`tag delete`, `manifest delete`, `blob delete` (refused while in use): 404 at once, the other tag stays; pushed again",
		run: func(t *testing.T, s *System) {
			const repo = "regctl/delete"
			run, ref := stored(t, s, repo)
			run.Run(t, regctl, "tag", "delete", ref+":1")
			tagGone(t, s, repo)
			blob(t, s, repo, run, func() {
				run.Run(t, regctl, "manifest", "delete", ref+"@"+string(l.root.Digest))
				manifestGone(t, s, repo)
			}, regctl)
			again(t, s, repo)
		},
	}, {
		client: "oras",
		proof:  "`manifest delete`, `blob delete` (refused while in use): 404 at once; pushed again",
		run: func(t *testing.T, s *System) {
			const repo = "oras/delete"
			run, ref := stored(t, s, repo)
			blob(t, s, repo, run, func() {
				run.Run(t, oras, "manifest", "delete", "--plain-http", "-f", ref+":1")
				manifestGone(t, s, repo)
			}, oras, "blob", "delete", "--plain-http", "-f")
			again(t, s, repo)
		},
	}, {
		client: "cosign",
		proof:  "`sign`, `clean`: the signature answers 404 at once, `verify` fails, the artifact stays",
		run: func(t *testing.T, s *System) {
			const repo = "cosign/delete"
			_, ref := stored(t, s, repo)
			sign := newCosign(t)
			ref += "@" + string(l.root.Digest)
			sign.must(t, "sign", "--key", "mine.key", "--tlog-upload=false", "-y", ref)
			sign.must(t, append(cosignVerify, "--key", "mine.pub", ref)...)
			sigTag := strings.Replace(string(l.root.Digest), ":", "-", 1) + ".sig"
			sig := digest.FromBytes(s.get(t, "/v2/"+repo+"/manifests/"+sigTag))
			sign.must(t, "clean", "--type", "signature", "-f", ref)
			s.gone(t, "/v2/"+repo+"/manifests/"+sigTag)
			if _, _, err := sign.try(append(cosignVerify, "--key", "mine.pub", ref)...); err == nil {
				t.Errorf("cosign verifies with the signature %s that was removed", sig)
			}
			readBack(t, s, repo, "1", l.root.Digest)
		},
	}}
	for _, client := range []string{"docker", "podman", "buildah", "containerd `ctr`"} {
		cells = append(cells, cell{client: client, none: "its `rm` and `rmi` forget local images; it has no command that deletes in a registry"})
	}
	cells = append(cells, cell{client: "helm", none: "it has no command that deletes in a registry"})
	for i := range cells {
		cells[i].content = "delete"
	}
	return cells
}
