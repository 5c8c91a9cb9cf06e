//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

const noteType = "application/vnd.berth.note.v1"

// referrersCells attach something to an image with every client that can, and
// list it by the referrers API.
func referrersCells(t *testing.T, c contents) []cell {
	crane, regctl, oras := Client(t, "crane"), Client(t, "regctl"), Client(t, "oras")
	subject := c.image

	// listed fails unless the API lists just d, filters by its type, and no
	// client fell back to a tag.
	listed := func(t *testing.T, s *System, repo string, d digest.Digest, artifactType string) {
		t.Helper()
		for _, filter := range []string{"", "?artifactType=" + strings.ReplaceAll(artifactType, "+", "%2B")} {
			got := s.referrers(t, repo, subject.root.Digest, filter)
			if len(got) != 1 || got[0].Digest != d || got[0].ArtifactType != artifactType {
				t.Errorf("referrers%s are %v, want %s of type %s", filter, got, d, artifactType)
			}
		}
		if got := s.referrers(t, repo, subject.root.Digest, "?artifactType=application/vnd.berth.other"); len(got) != 0 {
			t.Errorf("referrers of another type are %v", got)
		}
		if tags := s.tags(t, repo); len(tags) != 1 {
			t.Errorf("tags are %q, want the subject's alone", tags)
		}
		readBack(t, s, repo, string(d), d)
	}
	attached := attachedNote(t, subject.root)

	cells := []cell{{
		client: "crane",
		proof:  "layout with a `subject` pushed by digest: the API lists it, no fallback tag is made (crane has no command that lists)",
		run: func(t *testing.T, s *System) {
			const repo = "crane/referrers"
			s.pushLayout(t, repo, subject)
			NewCommands(t).Run(t, crane, "push", "--insecure", attached.dir, s.Addr+"/"+repo+"@"+string(attached.root.Digest))
			listed(t, s, repo, attached.root.Digest, noteType)
		},
	}, {
		client: "regctl",
		proof:  "`artifact put --subject`, `list` (filtered), `tree`, `get`: file equal; the API lists it, no fallback tag; `manifest delete --referrers` takes it off the list",
		run: func(t *testing.T, s *System) {
			const repo = "regctl/referrers"
			s.pushLayout(t, repo, subject)
			run, ref := NewCommands(t), s.Addr+"/"+repo
			run.Run(t, regctl, "registry", "set", "--tls", "disabled", s.Addr)
			writeFile(t, run, "note.txt", "twelve pallets\n")
			d := digest.Digest(run.Run(t, regctl, "artifact", "put", "--subject", ref+":1", "--artifact-type", noteType,
				"--file", "note.txt", "--file-media-type", "text/plain", "--format", "{{.Manifest.GetDescriptor.Digest}}"))
			listed(t, s, repo, d, noteType)
			for _, args := range [][]string{
				{"artifact", "list", "--filter-artifact-type", noteType, ref + ":1"}, {"artifact", "tree", ref + ":1"},
			} {
				if said := run.Run(t, regctl, args...); !strings.Contains(said, string(d)) {
					t.Errorf("regctl %q does not name %s:\n%s", args, d, said)
				}
			}
			if got := run.Run(t, regctl, "artifact", "get", "--subject", ref+":1", "--filter-artifact-type", noteType); got != "twelve pallets" {
				t.Errorf("the attached file says %q", got)
			}
			run.Run(t, regctl, "manifest", "delete", "--referrers", ref+"@"+string(d))
			if got := s.referrers(t, repo, subject.root.Digest, ""); len(got) != 0 {
				t.Errorf("the removed referrer is still listed: %v", got)
			}
		},
	}, {
		client: "oras",
		proof:  "`attach`, `discover`, `pull` by digest: file equal; the API lists it, no fallback tag; `manifest delete` takes it off the list",
		run: func(t *testing.T, s *System) {
			const repo = "oras/referrers"
			s.pushLayout(t, repo, subject)
			run, ref := NewCommands(t), s.Addr+"/"+repo
			writeFile(t, run, "note.txt", "twelve pallets\n")
			// Without --distribution-spec: oras must find out by itself that the API is there.
			d := digestIn(t, run.Run(t, oras, "attach", "--plain-http", "--artifact-type", noteType, ref+":1", "note.txt:text/plain"))
			listed(t, s, repo, d, noteType)
			found := run.Run(t, oras, "discover", "--plain-http", "--artifact-type", noteType, "--format", "json", ref+":1")
			if !strings.Contains(found, string(d)) {
				t.Errorf("oras discover does not show %s:\n%s", d, found)
			}
			run.Run(t, oras, "pull", "--plain-http", "-o", "out", ref+"@"+string(d))
			if got := readFile(t, run, "out/note.txt"); got != "twelve pallets\n" {
				t.Errorf("the attached file says %q", got)
			}
			run.Run(t, oras, "manifest", "delete", "--plain-http", "-f", ref+"@"+string(d))
			if got := s.referrers(t, repo, subject.root.Digest, ""); len(got) != 0 {
				t.Errorf("the removed referrer is still listed: %v", got)
			}
		},
	}, {
		client: "cosign",
		proof:  "`sign --registry-referrers-mode=oci-1-1`: the API lists the signature, no tag is made; `verify` finds it",
		run: func(t *testing.T, s *System) {
			const repo = "cosign/referrers"
			s.pushLayout(t, repo, subject)
			sign, ref := newCosign(t), s.Addr+"/"+repo+"@"+string(subject.root.Digest)
			sign.must(t, "sign", "--key", "mine.key", "--tlog-upload=false", "--registry-referrers-mode=oci-1-1", "-y", ref)
			got := s.referrers(t, repo, subject.root.Digest, "")
			if len(got) != 1 {
				t.Fatalf("referrers are %v, want one signature", got)
			}
			listed(t, s, repo, got[0].Digest, got[0].ArtifactType)
			sign.must(t, append(cosignVerify, "--experimental-oci11", "--key", "mine.pub", ref)...)
		},
	}}
	for _, client := range []string{"docker", "podman", "buildah", "containerd `ctr`", "skopeo", "helm"} {
		cells = append(cells, cell{client: client, none: "this version has no command that attaches or lists"})
	}
	for i := range cells {
		cells[i].content = "referrers"
	}
	return cells
}

// attachedNote is an artifact whose subject is what is given.
func attachedNote(t *testing.T, subject image.Descriptor) layout {
	t.Helper()
	l := newLayout(t)
	manifest := image.Manifest{
		MediaType:    image.MediaTypeImageManifest,
		ArtifactType: noteType,
		Config:       l.add(t, image.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []image.Descriptor{l.add(t, "text/plain", []byte("twelve pallets\n"))},
		Subject:      &image.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}
	manifest.SchemaVersion = 2
	l.root = l.add(t, image.MediaTypeImageManifest, asJSON(t, manifest))
	l.seal(t)
	return l
}
