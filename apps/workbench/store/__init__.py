"""Everything the workbench remembers: tables, migrations, files by content, and the queries over them. No HTTP in here."""
