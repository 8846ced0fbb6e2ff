"""The edge to Windows: .NET, http.sys, the service, the event log."""
