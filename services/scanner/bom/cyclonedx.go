package bom

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// The parts of a CycloneDX document that are written (cyclonedx.org/docs/1.6/json).
type (
	cdxDocument struct {
		BOMFormat    string          `json:"bomFormat"`
		SpecVersion  string          `json:"specVersion"`
		SerialNumber string          `json:"serialNumber"`
		Version      int             `json:"version"`
		Metadata     cdxMetadata     `json:"metadata"`
		Components   []cdxComponent  `json:"components"`
		Dependencies []cdxDependency `json:"dependencies"`
	}
	cdxMetadata struct {
		Timestamp string       `json:"timestamp"`
		Tools     cdxTools     `json:"tools"`
		Component cdxComponent `json:"component"`
	}
	cdxTools struct {
		Components []cdxComponent `json:"components"`
	}
	cdxComponent struct {
		Ref        string        `json:"bom-ref,omitempty"`
		Type       string        `json:"type"`
		Name       string        `json:"name"`
		Version    string        `json:"version,omitempty"`
		Licenses   []cdxLicense  `json:"licenses,omitempty"`
		PURL       string        `json:"purl,omitempty"`
		Properties []cdxProperty `json:"properties,omitempty"`
	}
	cdxLicense struct {
		License cdxName `json:"license"`
	}
	cdxName struct {
		Name string `json:"name"`
	}
	cdxProperty struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	cdxDependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// serial returns a UUID that is the same for the same image.
func serial(d registry.Digest) string {
	h := sha256.Sum256([]byte(d))
	h[6], h[8] = h[6]&0x0f|0x50, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

func cyclonedx(s *Subject) cdxDocument {
	root := cdxComponent{Ref: imageURL(s), Type: "container", Name: string(s.Repository), Version: string(s.Digest), PURL: imageURL(s)}
	doc := cdxDocument{
		BOMFormat: "CycloneDX", SpecVersion: "1.6", SerialNumber: "urn:uuid:" + serial(s.Digest), Version: 1,
		Metadata: cdxMetadata{
			Timestamp: s.At.UTC().Format(time.RFC3339),
			Tools:     cdxTools{[]cdxComponent{{Type: "application", Name: "berth", Version: s.Version}}},
			Component: root,
		},
		Components: []cdxComponent{},
	}
	top := cdxDependency{Ref: root.Ref}
	if os := s.Image.OS; os.Family != "" {
		c := cdxComponent{Ref: "os:" + os.Family + "@" + os.Version, Type: "operating-system", Name: os.Family, Version: os.Version}
		doc.Components = append(doc.Components, c)
		top.DependsOn = append(top.DependsOn, c.Ref)
	}
	n := 0
	each(s.Image, func(k contents.Kind, path string, p *contents.Package) {
		n++
		u := purl(s.Image.OS, k, p)
		c := cdxComponent{Ref: fmt.Sprintf("%d:%s", n, u), Type: "library", Name: p.Name, Version: Version(p), PURL: u}
		if p.License != "" {
			c.Licenses = []cdxLicense{{cdxName{p.License}}}
		}
		if path != "" {
			c.Properties = append(c.Properties, cdxProperty{"berth:path", path})
		}
		if p.Layer != "" {
			c.Properties = append(c.Properties, cdxProperty{"berth:layer", string(p.Layer)})
		}
		doc.Components = append(doc.Components, c)
		top.DependsOn = append(top.DependsOn, c.Ref)
	})
	doc.Dependencies = []cdxDependency{top}
	return doc
}
