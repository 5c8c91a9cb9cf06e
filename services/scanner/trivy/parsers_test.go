package trivy

import (
	"bytes"
	"context"
	"path"
	"path/filepath"
	"strings"

	conda "github.com/aquasecurity/trivy/pkg/dependency/parser/conda/meta"
	dotnet "github.com/aquasecurity/trivy/pkg/dependency/parser/dotnet/core_deps"
	golang "github.com/aquasecurity/trivy/pkg/dependency/parser/golang/binary"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/java/jar"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/nodejs/npm"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/nodejs/packagejson"
	nuget "github.com/aquasecurity/trivy/pkg/dependency/parser/nuget/config"
	nugetlock "github.com/aquasecurity/trivy/pkg/dependency/parser/nuget/lock"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/nuget/packagesprops"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/php/composer"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/python/packaging"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/ruby/gemspec"
	rust "github.com/aquasecurity/trivy/pkg/dependency/parser/rust/binary"
	"github.com/aquasecurity/trivy/pkg/dependency/parser/rust/cargo"
	"github.com/aquasecurity/trivy/pkg/fanal/types"
	xio "github.com/aquasecurity/trivy/pkg/x/io"
)

// parser is what most of Trivy's parsers are.
type parser interface {
	Parse(context.Context, xio.ReadSeekerAt) ([]types.Package, []types.Dependency, error)
}

// parsersOf returns Trivy's parsers for a file of an image, by the names that Trivy's
// analyzers look at. Those import more than a thousand packages, the parsers do not.
func parsersOf(name string, executable bool, size int64) []parser {
	base, dir := path.Base(name), path.Dir(name)
	var all []parser
	if executable {
		all = append(all, golang.NewParser(), rust.NewParser())
	}
	switch {
	case base == "package.json":
		all = append(all, installed{})
	case base == "package-lock.json" && !strings.Contains(name, "node_modules/"):
		all = append(all, npm.NewParser())
	case base == "METADATA" && strings.Contains(dir, ".dist-info"), strings.HasSuffix(name, "EGG-INFO/PKG-INFO"), strings.HasSuffix(name, ".egg-info"),
		strings.HasSuffix(name, ".egg-info/PKG-INFO"), strings.HasSuffix(name, ".egg-info/METADATA"):
		all = append(all, packaging.NewParser())
	case strings.HasSuffix(base, ".gemspec") && strings.Contains(dir+"/", "/specifications/"):
		all = append(all, gemspec.NewParser())
	case base == "installed.json":
		all = append(all, composer.NewParser())
	case strings.HasSuffix(base, ".deps.json"):
		all = append(all, dotnet.NewParser())
	case base == "packages.lock.json":
		all = append(all, nugetlock.NewParser())
	case base == "packages.config":
		all = append(all, nuget.NewParser())
	case strings.HasSuffix(strings.ToLower(base), "packages.props"):
		all = append(all, packagesprops.NewParser())
	case base == "Cargo.lock":
		all = append(all, cargo.NewParser())
	case strings.HasSuffix(base, ".json") && path.Base(dir) == "conda-meta":
		all = append(all, conda.NewParser())
	}
	switch strings.ToLower(filepath.Ext(base)) {
	case ".jar", ".war", ".ear", ".par":
		all = append(all, jar.NewParser(noArtifacts{}, jar.WithFilePath(name), jar.WithSize(size), jar.WithOffline(true)))
	}
	return all
}

// installed is Trivy's parser of installed packages of Node.js, as the others are.
type installed struct{}

func (installed) Parse(_ context.Context, r xio.ReadSeekerAt) ([]types.Package, []types.Dependency, error) {
	p, err := packagejson.NewParser().Parse(r)
	return []types.Package{p.Package}, nil, err
}

// noArtifacts is Trivy's index of Java archives, which the scanner does not have. Without
// it a manifest is believed by both.
type noArtifacts struct{}

func (noArtifacts) Exists(string, string) (bool, error) { return false, nil }

func (noArtifacts) SearchBySHA1(string) (jar.Properties, error) {
	return jar.Properties{}, jar.ArtifactNotFoundErr
}

func (noArtifacts) SearchByArtifactID(string, string) (string, error) {
	return "", jar.ArtifactNotFoundErr
}

// asTrivy returns name and version of each package that Trivy finds in a file, but for
// those without a version and those for development, which have no advisories there.
func asTrivy(ctx context.Context, name string, executable bool, content []byte) map[string]bool {
	found := map[string]bool{}
	for _, p := range parsersOf(name, executable, int64(len(content))) {
		all, _, err := p.Parse(ctx, bytes.NewReader(content))
		if err != nil {
			continue // no file of that kind, or a damaged one
		}
		for _, p := range all {
			if p.Name != "" && p.Version != "" && !p.Dev {
				found[p.Name+" "+p.Version] = true
			}
		}
	}
	return found
}
