@echo off
rem Cloud Services (extended support): installs certcast's agent at each start of the role instance.
rem It is a background task, so that the role starts meanwhile; the load balancer's probe is what holds traffic back.
rem install.ps1, requirements-agent.txt, agent.toml and the wheel lie beside this file in the role's approot\bin.
rem Cloud Services have no managed identity: agent.toml names an application and its certificate, see docs/deploy.md.

if "%CERTCAST_EMULATED%"=="true" exit /b 0

set "log=%~dp0certcast-startup.log"
set "powershell=%SystemRoot%\System32\WindowsPowerShell\v1.0\powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass"
%powershell% -File "%~dp0install.ps1" -PackageHash "%CERTCAST_WHEEL_SHA256%" -SettingsFile "%~dp0agent.toml" -Setting "RoleInstanceID=%RoleInstanceID%" >> "%log%" 2>&1
rem A startup task that fails keeps the role from starting, and the role can do without the agent for a while.
exit /b 0
