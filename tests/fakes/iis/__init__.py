"""An IIS for tests: in memory, and as a C# assembly with Microsoft.Web.Administration's names for Mono."""
