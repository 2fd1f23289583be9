"""Your own documents as passages: Markdown, plain text, HTML, PDF, DOCX and JSON lines."""

from seal.domains.documents.folder import Documents, Passage, Refused, Source, read_documents

__all__ = ["Documents", "Passage", "Refused", "Source", "read_documents"]
