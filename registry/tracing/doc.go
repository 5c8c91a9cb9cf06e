// Package tracing follows a request through the services: by an id that every log
// line about it has, and, where traces are exported, by spans.
//
// Spans are made where a request enters a process, by a [Tracer]; everything below
// takes the tracer from the context with [Start]. Without a tracer, or in a trace
// that is not sampled, that costs a look into the context and allocates nothing.
//
// Attributes say what was worked on, by names of the program's choice: never a
// whole URL, a header or the text of an error, any of which may hold a secret.
package tracing
