package validate

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// TestGuideManifest takes the deployment of the guide that zot users start from
// and changes the name of the image: the objects are good, the program accepts
// the config file, and what is mounted is where our image looks.
func TestGuideManifest(t *testing.T) {
	text, err := os.ReadFile("testdata/guide.yaml")
	if err != nil {
		t.Fatal(err)
	}
	sameAsGuide(t, string(text))
	const theirImage = "ghcr.io/project-zot/zot-linux-amd64:v2.0.1"
	if !strings.Contains(string(text), theirImage) {
		t.Fatal("the image is another one")
	}
	objects := decode(t, strings.ReplaceAll(string(text), theirImage, "berth-registry/berth:0.1.0"))
	if len(objects) != 6 {
		t.Errorf("%d objects, want 6", len(objects))
	}
	connected(t, objects)
	if w := configured(t, objects); w != "" {
		t.Log(w)
	}

	script, err := os.ReadFile("../images.sh")
	if err != nil {
		t.Fatal(err)
	}
	c := pods(objects)["zot"].Spec.Containers[0]
	for _, m := range c.VolumeMounts {
		// TestImage of allinone/e2e mounts at these places, too.
		if !strings.Contains(string(script), "ln -s berth \"$stage/rootfs"+m.MountPath+"\"") {
			t.Errorf("the image has nothing at %s", m.MountPath)
		}
	}
	if !slices.Equal(c.Args, []string{"serve", "/etc/zot/config.json"}) || len(c.Command) > 0 {
		t.Errorf("runs %q %q", c.Command, c.Args)
	}
	for _, p := range []*core.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if p.HTTPGet.Path != "/v2/" || p.HTTPGet.Port.IntValue() != 5000 {
			t.Errorf("asks %v, which a gateway answers with 200 at /v2/", p.HTTPGet)
		}
	}
}

// sameAsGuide compares text with what the guide says, where its text is at hand:
// there the lines have lost their indentation.
func sameAsGuide(t *testing.T, text string) {
	t.Helper()
	name := os.Getenv("BERTH_GUIDE")
	if name == "" {
		name = path.Join("..", "..", "..", "shared", "reference", "zot-guide.txt")
	}
	guide, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("not compared with the guide, which is not at %s", name)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	flat := func(s string) string {
		var b strings.Builder
		for line := range strings.Lines(s) {
			b.WriteString(strings.TrimSpace(line) + "\n")
		}
		return b.String()
	}
	if !strings.Contains(flat(string(guide)), flat(text)) {
		t.Error("testdata/guide.yaml is not what the guide says")
	}
}
