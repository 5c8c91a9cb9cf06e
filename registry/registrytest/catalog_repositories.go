package registrytest

import (
	"testing"
)

func repositoryTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"UploadKeys", testUploadKeys},
	}
}

func testUploadKeys(t *testing.T, b CatalogBackend) {
	c := b.New(t, CatalogOptions{})
	keys, err := c.UploadKeys(t.Context())
	must(t, "UploadKeys", err)
	if len(keys) == 0 {
		t.Error("no key")
	}
}
