// Package validate tests what users deploy Berth with: that each object of the
// Helm chart and of the rendered manifests is one that the Kubernetes API knows,
// field by field, is held together by names and labels that exist, keeps to the
// restricted Pod Security Standard, and carries a config file that its program
// accepts; that compose files mean something to compose v2; and that systemd
// accepts the unit.
//
// No cluster runs any of it. `make deploy-check` runs the tests; they need the
// programs in bin/ and helm.
package validate
