package bom

import (
	"fmt"
	"time"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// The parts of an SPDX document that are written (spdx.github.io/spdx-spec/v2.3).
type (
	spdxDocument struct {
		SPDXVersion       string             `json:"spdxVersion"`
		DataLicense       string             `json:"dataLicense"`
		SPDXID            string             `json:"SPDXID"`
		Name              string             `json:"name"`
		DocumentNamespace string             `json:"documentNamespace"`
		CreationInfo      spdxCreation       `json:"creationInfo"`
		Packages          []spdxPackage      `json:"packages"`
		Relationships     []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		Name             string         `json:"name"`
		SPDXID           string         `json:"SPDXID"`
		VersionInfo      string         `json:"versionInfo,omitempty"`
		DownloadLocation string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		LicenseComments  string         `json:"licenseComments,omitempty"`
		CopyrightText    string         `json:"copyrightText"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		ExternalRefs     []spdxExternal `json:"externalRefs,omitempty"`
	}
	spdxExternal struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		Element string `json:"spdxElementId"`
		Related string `json:"relatedSpdxElement"`
		Type    string `json:"relationshipType"`
	}
)

const (
	spdxDocumentID = "SPDXRef-DOCUMENT"
	spdxRootID     = "SPDXRef-Image"
	noAssertion    = "NOASSERTION"
)

func spdx(s *Subject) spdxDocument {
	plain := func(name, id, version, url string) spdxPackage {
		return spdxPackage{
			Name: name, SPDXID: id, VersionInfo: version, DownloadLocation: noAssertion, LicenseConcluded: noAssertion, LicenseDeclared: noAssertion, CopyrightText: noAssertion,
			ExternalRefs: []spdxExternal{{"PACKAGE-MANAGER", "purl", url}},
		}
	}
	root := plain(string(s.Repository), spdxRootID, string(s.Digest), imageURL(s))
	root.Purpose = "CONTAINER"
	doc := spdxDocument{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: spdxDocumentID, Name: string(s.Repository) + "@" + string(s.Digest),
		DocumentNamespace: "urn:uuid:" + serial(s.Digest),
		CreationInfo:      spdxCreation{Created: s.At.UTC().Format(time.RFC3339), Creators: []string{"Tool: berth-" + s.Version}},
		Packages:          []spdxPackage{root},
		Relationships:     []spdxRelationship{{spdxDocumentID, spdxRootID, "DESCRIBES"}},
	}
	n := 0
	each(s.Image, func(k contents.Kind, path string, p *contents.Package) {
		n++
		x := plain(p.Name, fmt.Sprintf("SPDXRef-Package-%d", n), Version(p), purl(s.Image.OS, k, p))
		x.SourceInfo = path
		if p.License != "" { // what its maintainers wrote need not be an expression of SPDX
			x.LicenseComments = p.License
		}
		doc.Packages = append(doc.Packages, x)
		doc.Relationships = append(doc.Relationships, spdxRelationship{spdxRootID, x.SPDXID, "CONTAINS"})
	})
	return doc
}
