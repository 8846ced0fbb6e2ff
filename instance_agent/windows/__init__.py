"""The edge to Windows: .NET, http.sys, the service, the event log; what is decided about them lives in the targets."""
