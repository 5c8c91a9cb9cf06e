package postgres

// For tests in package postgres_test.
var (
	OpenPatiently = openPatiently
	Translate     = translate
)
