// The identity of the real assembly that IIS installs in inetsrv.
using System.Reflection;

[assembly: AssemblyTitle("Microsoft.Web.Administration stand-in for certcast's tests")]
[assembly: AssemblyVersion("7.0.0.0")]
